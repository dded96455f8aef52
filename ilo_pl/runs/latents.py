"""Files of latents: what regenerates an image, and what they say of the generator that they belong to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.generators import SplitGenerator
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.generators.point import Point, differences
from ilo_pl.io.folder import RunFolder

POINT_FORMAT = "ilo_pl.point/2"


def write_latents(
    folder: RunFolder, name: str, point: Point, space: str, generator: GeneratorConfig
) -> Path:
    """Write what regenerates an image into a run folder; :func:`load_point` reads it.

    Args:
        folder: the run folder.
        name: the image's id.
        point: the variables (batch of one).
        space: their latent space.
        generator: the generator they belong to.
    """
    tensors, metadata = _content(point, space, generator)
    return folder.write(
        f"latents/{name}.safetensors",
        lambda path: safetensors.torch.save_file(tensors, path, metadata),
    )


def latents_bytes(point: Point, space: str, generator: GeneratorConfig) -> bytes:
    """Return the content of the file that :func:`write_latents` writes; arguments as there."""
    tensors, metadata = _content(point, space, generator)
    return safetensors.torch.save(tensors, metadata)


def _content(
    point: Point, space: str, generator: GeneratorConfig
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a file's tensors, and what it says of the generator they belong to."""
    tensors = {key: value.contiguous() for key, value in point.named()}
    if point.deviation is not None:  # it has no more digits
        tensors["deviation"] = tensors["deviation"].half()
    metadata = {
        "format": POINT_FORMAT,
        "generator": generator.name,
        "seed": str(generator.seed),
        "split": str(point.split),
        "space": space,
    }
    if generator.weights:
        # The file is read from other working directories too; a registered name is no path.
        path = Path(generator.weights)
        metadata["weights"] = str(path.absolute()) if path.exists() else generator.weights
    if generator.class_index is not None:
        metadata["class_index"] = str(generator.class_index)
    if generator.size is not None:
        metadata["size"] = str(generator.size)
    return tensors, metadata


def load_point(path: Path) -> tuple[Point, dict[str, str]]:
    """Read a latents file: the point (batch of one) and its metadata.

    ``render(generator, point, metadata["space"])`` gives the image that was saved with it;
    :func:`generator_of` says of which generator.

    Raises:
        InputError: the file is not one.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # on damaged files safetensors and torch raise nearly anything
        raise InputError(f"{path} cannot be read as a latents file: {error}.") from error
    if metadata.get("format") != POINT_FORMAT:
        raise InputError(f"{path} is not a latents file of ilo_pl ({POINT_FORMAT}).")
    try:
        _ = metadata["generator"], metadata["space"]
        if not 0 <= int(metadata["seed"]) < 1 << 63:
            raise ValueError(f"its seed {metadata['seed'][:40]} is not between 0 and 2^63")
        _check_values(tensors)
        point = Point.from_named(int(metadata["split"]), tensors).map(lambda t: t.float())
        if int(metadata.get("class_index", 0)) < 0:
            raise ValueError(f"its class {metadata['class_index'][:40]} is below 0")
        if int(metadata.get("size", 1)) < 1:
            raise ValueError(f"its size {metadata['size'][:40]} is below 1")
    except (KeyError, ValueError) as error:
        raise InputError(f"The latents file {path} is damaged: {error}.") from error
    return point, metadata


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    """Make sure that tensors are what :func:`write_latents` writes.

    Raises:
        ValueError: one is not float32, not of one image, or not finite.
    """
    for name, value in tensors.items():
        wanted = torch.float16 if name == "deviation" else torch.float32
        if value.dtype != wanted:
            kind, right = (str(t).removeprefix("torch.") for t in (value.dtype, wanted))
            raise ValueError(f"{name[:80]} holds {kind}, and should hold {right}")
        if value.ndim < 2 or len(value) != 1:
            raise ValueError(
                f"{name[:80]} has the shape {tuple(value.shape)}, not that of one image"
            )
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name[:80]} holds numbers that are not finite")


def generator_of(
    metadata: Mapping[str, str],
    name: str | None = None,
    weights: str | None = None,
    seed: int | None = None,
    size: int | None = None,
) -> GeneratorConfig:
    """Return the generator that latents belong to, or another one.

    Args:
        metadata: what :func:`load_point` returned.
        name: another generator, for which its weights, seed and size do not count.
        weights: other weights.
        seed: another seed.
        size: another size of its images.

    Raises:
        InputError: its weights are not there any more.
    """
    own = name in (None, metadata["generator"])
    stored = metadata.get("weights") if own and weights is None else None
    if stored and os.path.isabs(stored) and not os.path.exists(stored):
        raise InputError(
            f"The latents were made with the weights {stored[:200]}, which are not there.",
            hint="Give them with --weights.",
        )
    if seed is None and own:
        seed = int(metadata["seed"])
    if size is None and own and "size" in metadata:
        size = int(metadata["size"])
    return GeneratorConfig(
        name=name or metadata["generator"],
        weights=weights or stored,
        seed=seed or 0,
        class_index=int(metadata["class_index"]) if own and "class_index" in metadata else None,
        size=size,
    )


def check_point(generator: SplitGenerator, point: Point, space: str) -> None:
    """Find out whether latents can be those of a generator.

    Args:
        generator: the generator.
        point: the variables (batch of one).
        space: their latent space.

    Raises:
        InputError: their names or shapes are those of another generator.
    """
    problems = differences(generator, point, space)
    if problems:
        raise InputError(
            f"The latents do not belong to this {type(generator).__name__}: {'; '.join(problems)}.",
            hint="Give the generator, weights and seed that they were made with.",
        )
