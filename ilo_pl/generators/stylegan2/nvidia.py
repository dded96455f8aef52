"""Networks of NVIDIA's stylegan2-ada-pytorch and stylegan3 repositories (architecture StyleGAN2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators.stylegan2.unpickler import Persistent, unpickle


def read_nvidia(path: Path) -> tuple[dict[str, Tensor], float | None, dict[str, Any]]:
    """Read the averaged generator ``G_ema`` of a pickle.

    Returns:
        Its state dictionary, its ``conv_clamp``, and the arguments it was constructed with.

    Raises:
        WeightsError: the file is damaged, holds something else, or holds code to be run.
    """
    with path.open("rb") as file:
        content = unpickle(file, str(path))
    generator = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(generator, Persistent):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(
            f"{path} holds no averaged generator 'G_ema'; it holds {keys or 'nothing'}.",
            hint="A discriminator alone cannot generate." if "D" in keys.split(", ") else "",
        )
    try:
        modules = dict(_modules(generator, ""))
        state = dict(_tensors(modules))
        _check_architecture(path, modules, state)
        clamps = {m.state.get("conv_clamp") for m in modules.values() if "conv_clamp" in m.state}
        arguments = dict(generator.state.get("_init_kwargs", {}))
        limits = {None if clamp is None else float(clamp) for clamp in clamps}
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} holds a generator of unknown build: {error}.") from None
    if len(limits) > 1:
        raise WeightsError(f"{path} clamps its layers to different values, {limits}.")
    return state, limits.pop() if limits else None, arguments


def _modules(module: Persistent, prefix: str) -> Iterator[tuple[str, Persistent]]:
    yield prefix, module
    for name, child in module.state["_modules"].items():
        if child is not None:
            yield from _modules(child, f"{prefix}{name}.")


def _tensors(modules: dict[str, Persistent]) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in modules.items():
        passing = module.state.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, value in module.state[kind].items():
                if value is not None and name not in passing:
                    yield prefix + name, value.float()


def _check_architecture(
    path: Path, modules: dict[str, Persistent], state: dict[str, Tensor]
) -> None:
    def refuse(what: str) -> WeightsError:
        return WeightsError(
            f"{path} is not a StyleGAN2 that is read: {what}.",
            hint="Read are unconditional StyleGAN2 generators of the architecture 'skip'.",
        )

    if "synthesis.input." in modules or any(".L0_" in name for name in modules):
        raise refuse("it is a StyleGAN3")
    if any("fromrgb" in name for name in modules):
        raise refuse("it is a discriminator")
    blocks = {n: m for n, m in modules.items() if n.startswith("synthesis.b") and n.count(".") == 2}
    if "mapping." not in modules or not blocks:
        raise refuse(f"its parts are {', '.join(n for n in modules if n.count('.') == 1)}")
    if "mapping.embed.weight" in state:
        raise refuse("it is conditioned on a class")
    for name, block in blocks.items():
        architecture = block.state.get("architecture", "skip")
        if architecture != "skip":
            raise refuse(f"{name} has the architecture {architecture!r}")
    for name, module in modules.items():
        activation = module.state.get("activation", "lrelu")
        if activation != "lrelu" and not name.endswith("affine."):
            raise refuse(f"{name} has the activation {activation!r}")
