"""Networks of NVIDIA's stylegan2-ada-pytorch and stylegan3 repositories (architecture StyleGAN2).

Every attribute that these codes give a module is looked at: what changes an image is read or has the one
value that is computed here, and an attribute that they do not know is refused, because it belongs to
another code, which may compute something else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators.stylegan2.architecture import (
    ActivationName,
    Architecture,
    Kind,
    read_off,
)
from ilo_pl.generators.stylegan2.unpickler import Persistent, unpickle
from ilo_pl.weights.inert import brief

MAX_MODULES = 1000
MAX_PATH = 80
MAX_TENSORS = 16
MAX_TAPS = 64
KNOWN = {
    "Generator": "z_dim c_dim w_dim img_resolution img_channels num_ws",
    "MappingNetwork": "z_dim c_dim w_dim num_ws num_layers w_avg_beta trainable_layers",
    "SynthesisNetwork": "w_dim img_resolution img_resolution_log2 img_channels block_resolutions "
    "num_ws num_fp16_res",
    "SynthesisBlock": "in_channels w_dim resolution img_channels is_last architecture use_fp16 "
    "channels_last num_conv num_torgb fused_modconv_default",
    "SynthesisLayer": "in_channels out_channels w_dim resolution up use_noise activation conv_clamp "
    "padding act_gain",
    "ToRGBLayer": "in_channels out_channels w_dim conv_clamp weight_gain",
    "FullyConnectedLayer": "in_features out_features activation weight_gain bias_gain",
    "Conv2dLayer": "in_channels out_channels activation up down conv_clamp padding weight_gain act_gain",
}
GAINS = dict.fromkeys(get_args(ActivationName), 1.0) | dict.fromkeys(
    ("relu", "lrelu", "swish"), math.sqrt(2)
)
ARGUMENTS = (
    "z_dim c_dim w_dim img_resolution img_channels mapping_kwargs synthesis_kwargs channel_base "
    "channel_max num_fp16_res conv_clamp architecture resample_filter use_noise activation kernel_size "
    "use_fp16 fp16_channels_last fused_modconv_default num_layers embed_features layer_features "
    "lr_multiplier w_avg_beta freeze_layers freeze_embed block_kwargs layer_kwargs channels_last"
)


class UnknownError(Exception):
    """The network has a part that is not read."""


def read_nvidia(path: Path) -> tuple[dict[str, Tensor], Architecture, dict[str, str]]:
    """Read the averaged generator ``G_ema`` of a pickle, or the one network that it holds.

    Returns:
        Its state dictionary, its architecture, and the arguments it was constructed with, for people.

    Raises:
        WeightsError: the file is damaged, holds something else, or holds code to be run.
        ConfigurationError: its shapes are not those of a StyleGAN2.
    """
    content = unpickle(path)
    generator = content.get("G_ema") if isinstance(content, dict) else content
    if not isinstance(generator, Persistent):
        keys = list(content) if isinstance(content, dict) else []
        held = ", ".join(map(brief, keys[:8])) if keys else brief(content)
        raise WeightsError(
            f"{path} holds no averaged generator 'G_ema'; it holds {held}.",
            hint="A discriminator alone cannot generate." if "D" in keys else "",
        )
    try:
        modules = dict(_modules(generator))
        _check_kind(modules)
        for name, module in modules.items():
            _check_module(name, module)
        state = dict(_tensors(modules))
        architecture = _architecture(modules, state)
        arguments = _arguments(generator)
    except UnknownError as error:
        raise WeightsError(f"{path} is not a StyleGAN2 that is read: {error}.") from None
    except (AttributeError, TypeError, KeyError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{path} holds a generator of unknown build: {str(error)[:200]}."
        ) from None
    return state, architecture, arguments


def _modules(root: Persistent) -> Iterator[tuple[str, Persistent]]:
    """Yield every module by its path; a file can make one its own child, or a thousand times a child."""
    waiting, count = [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        yield prefix, module
        for name, child in module.state["_modules"].items():
            count += 1
            if count > MAX_MODULES or not isinstance(name, str) or not name.isidentifier():
                raise UnknownError("it has more parts than any that is known")
            path = f"{prefix}{name[:40]}"
            if isinstance(child, Persistent) and len(path) <= MAX_PATH:
                waiting.append((f"{path}.", child))
            elif child is not None:
                raise UnknownError(f"{path} is {brief(child)}")


def _tensors(modules: dict[str, Persistent]) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in modules.items():
        passing = module.state.get("_non_persistent_buffers_set", set())
        if not isinstance(passing, (set, dict)):
            raise UnknownError(f"{prefix} keeps names in {brief(passing)}")
        for kind in ("_parameters", "_buffers"):
            own = module.state[kind]
            if len(own) > MAX_TENSORS:
                raise UnknownError(f"{prefix} has {len(own)} tensors")
            for name, value in own.items():
                if value is None or name in passing:
                    continue
                if not isinstance(value, Tensor):
                    raise UnknownError(f"{prefix}{brief(name)} is no tensor")
                if name == "resample_filter" and value.ndim == 1 and value.numel() <= MAX_TAPS:
                    # Filters of eight taps and more are kept as one row, applied twice.
                    yield f"{prefix}{name}", torch.outer(value.float(), value.float())
                else:
                    yield f"{prefix}{name}", value


def _check_kind(modules: dict[str, Persistent]) -> None:
    """Say what it is where it is a known network of another kind."""
    if "synthesis.input." in modules or any(".L0_" in name for name in modules):
        raise UnknownError("it is a StyleGAN3")
    if any("fromrgb" in name for name in modules) or modules[""].class_name == "Discriminator":
        raise UnknownError("it is a discriminator")
    if "mapping." not in modules or "synthesis.b4." not in modules:
        parts = ", ".join(n for n in list(modules)[:8] if n.count(".") == 1)
        raise UnknownError(f"its parts are {parts or 'none'}")


def _check_module(name: str, module: Persistent) -> None:
    """Refuse classes and attributes that are not known."""
    where = name.rstrip(".") or "the network"
    if module.class_name not in KNOWN:
        raise UnknownError(f"{where} is a {module.class_name[:40]}")
    known = KNOWN[module.class_name].split()
    for attribute in module.state:
        # What begins so belongs to PyTorch's modules and to the storing itself.
        if (
            attribute != "training"
            and not str(attribute).startswith("_")
            and attribute not in known
        ):
            raise UnknownError(
                f"{where}, a {module.class_name}, has the attribute {brief(attribute)}, which may "
                "change its images"
            )


def _one(what: str, values: list[Any]) -> Any:
    """Return the one value that all modules have, a number or a text."""
    plain = all(v is None or isinstance(v, (str, int, float)) for v in values)
    if not plain or any(v != values[0] for v in values):
        raise UnknownError(f"its {what} are not one: {brief(values)}")
    return values[0]


def _expect(where: str, module: Persistent, **wanted: Any) -> None:
    """Refuse a module whose attributes have other values than what is computed here."""
    for attribute, value in wanted.items():
        found = module.state[attribute]
        same = (
            math.isclose(found, value, rel_tol=1e-6)
            if isinstance(value, float) and isinstance(found, (int, float))
            else type(found) is type(value) and found == value
        )
        if not same:
            raise UnknownError(
                f"{where.rstrip('.')} has {attribute} = {brief(found)}, not {brief(value)}"
            )


def _architecture(modules: dict[str, Persistent], state: dict[str, Tensor]) -> Architecture:
    """Read what no shape tells off the modules' attributes, and check what is always the same."""

    def of(kind: str) -> dict[str, Persistent]:
        return {n: m for n, m in modules.items() if m.class_name == kind}

    layers, colours, blocks = of("SynthesisLayer"), of("ToRGBLayer"), of("SynthesisBlock")
    inner = {n: m for n, m in modules.items() if n.startswith("mapping.fc")}
    if not inner or not layers or not colours or not blocks:
        raise UnknownError(f"it has {len(inner)} mapping layers and {len(layers)} convolutions")
    clamps = [m.state["conv_clamp"] for m in [*layers.values(), *colours.values()]]
    clamp = _one("clamps", [None if c is None else float(c) for c in clamps])
    lr = _one("learning rates", [float(m.state["bias_gain"]) for m in inner.values()])
    activation = _one("activations", [m.state["activation"] for m in layers.values()])
    mapped = _one("activations", [m.state["activation"] for m in inner.values()])
    kind = _one("architectures", [m.state["architecture"] for m in blocks.values()])
    for value, known in ((activation, GAINS), (mapped, GAINS), (kind, get_args(Kind))):
        if value not in known:
            raise UnknownError(f"it is built with {brief(value)}")
    told = {"mapping_lr": lr, "mapping_activation": mapped, "activation": activation}
    architecture = read_off(state, kind=kind, conv_clamp=clamp, **told)
    _check_constants(modules, state, architecture)
    return architecture


def _check_constants(
    modules: dict[str, Persistent], state: dict[str, Tensor], architecture: Architecture
) -> None:
    """Refuse factors and sizes that are computed here in the one way that NVIDIA's code has."""

    def of(kind: str) -> dict[str, Persistent]:
        return {n: m for n, m in modules.items() if m.class_name == kind}

    for name, module in of("SynthesisLayer").items():
        up = 2 if name.endswith("conv0.") else 1
        _expect(name, module, up=up, padding=1, use_noise=architecture.use_noise)
        _expect(name, module, act_gain=GAINS[architecture.activation])
    for name, module in of("ToRGBLayer").items():
        _expect(name, module, weight_gain=state[f"{name}weight"].shape[1] ** -0.5)
    for name, module in of("FullyConnectedLayer").items():
        mapped = name.startswith("mapping.fc")
        factor = architecture.mapping_lr if mapped else 1.0
        scale = factor * state[f"{name}weight"].shape[1] ** -0.5
        _expect(name, module, weight_gain=scale, bias_gain=factor)
        if not mapped:
            _expect(name, module, activation="linear")
    for name, module in of("Conv2dLayer").items():
        scale = state[f"{name}weight"].shape[1] ** -0.5
        _expect(name, module, up=2, down=1, padding=0, activation="linear", conv_clamp=None)
        _expect(name, module, act_gain=1.0, weight_gain=scale)


def _arguments(generator: Persistent) -> dict[str, str]:
    """Describe the arguments of the constructor, and refuse names of another code."""
    given = generator.state.get("_init_kwargs", {})
    flat = dict(given)
    for group in ("mapping_kwargs", "synthesis_kwargs"):
        flat |= {f"{group}.{k}": v for k, v in (given.get(group) or {}).items()}
    for name in flat:
        if str(name).rpartition(".")[2] not in ARGUMENTS.split():
            raise UnknownError(
                f"it was constructed with {brief(name)}, which may change its images"
            )
    return {str(k): brief(v) for k, v in flat.items() if not isinstance(v, dict)}
