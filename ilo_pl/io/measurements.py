"""Measurements in files that a run can be repeated from: one ``.npz`` for each image."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.io.find import MAX_ID
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import SUFFIXES

FORMAT = "ilo_pl.measurements/1"
SUFFIX = ".npz"
ORIGIN = ("id", "image_shape", "seed", "task", "operator", "noise")
# What damaged archives raise: a flipped bit can ask for a password or for more memory than there is.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
HINT = "A run with save_measurements=true writes such files into its folder measurements/."


@dataclass(frozen=True)
class Origin:
    """How measurements were made; the same for all images of a run.

    Args:
        image_shape: shape ``(C, H, W)`` of the images.
        seed: seed of the run.
        task: name of its task.
        operator: its operator's configuration.
        noise: its noise model's configuration.
    """

    image_shape: tuple[int, ...]
    seed: int
    task: str
    operator: Mapping[str, Any]
    noise: Mapping[str, Any]


@dataclass(frozen=True)
class Measurements:
    """The measurements of one image.

    Args:
        id: the image's id.
        origin: how they were made.
        values: the measurements, float32, without a batch dimension.
        masks: the masks of the operator in order, each ``(1, H, W)``, 1 where a pixel is observed.
    """

    id: str
    origin: Origin
    values: Tensor
    masks: tuple[Tensor, ...] = ()

    def save(self, folder: RunFolder) -> Path:
        """Write ``measurements/<id>.npz`` into a run folder; :func:`load_measurements` reads it.

        Raises:
            OutputError: the file could not be written.
        """
        arrays: dict[str, Any] = {
            "format": np.array(FORMAT),
            "id": np.array(self.id),
            "image_shape": np.array(self.origin.image_shape),
            "seed": np.array(self.origin.seed),
            "task": np.array(self.origin.task),
            "operator": np.array(json.dumps(self.origin.operator)),
            "noise": np.array(json.dumps(self.origin.noise)),
            "y": self.values.numpy(),
        }
        arrays |= {f"mask{i}": mask.numpy().astype(bool) for i, mask in enumerate(self.masks)}

        def write(path: Path) -> None:
            # numpy would add a suffix to a name without one.
            with path.open("wb") as file:
                np.savez_compressed(file, **arrays)

        return folder.write(f"measurements/{self.id}{SUFFIX}", write)


def load_measurements(path: Path) -> Measurements:
    """Read a file of measurements.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    arrays = _read(path, (*ORIGIN, "y"), more="mask")
    y = arrays["y"]
    if y.dtype != np.float32 or y.ndim == 0 or not np.isfinite(y).all():
        raise InputError(f"The measurements in {path} are not finite float32 numbers.")
    masks = [arrays[name] for name in arrays if name.startswith("mask")]
    if any(mask.dtype != bool or mask.ndim != 3 for mask in masks):
        raise InputError(f"The masks in {path} are not of shape (1, H, W), true and false.")
    return Measurements(
        _id(path, arrays),
        _origin(path, arrays),
        torch.from_numpy(y),
        tuple(torch.from_numpy(mask) for mask in masks),
    )


def load_origin(path: Path) -> tuple[str, Origin]:
    """Read the image's id and how its measurements were made, without the measurements.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    arrays = _read(path, ORIGIN)
    return _id(path, arrays), _origin(path, arrays)


def _read(path: Path, names: Sequence[str], more: str | None = None) -> dict[str, np.ndarray]:
    """Read some arrays of a file, and those that are called ``more`` and a number from 0 on."""
    foreign = InputError(f"{path} is not a file of measurements of ilo_pl ({FORMAT}).", hint=HINT)
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise foreign
            if "format" not in file.files or str(file["format"]) != FORMAT:
                raise foreign
            numbered = [f"{more}{i}" for i in range(len(file.files))]
            return {
                name: file[name] for name in [*names, *(n for n in numbered if n in file.files)]
            }
    except UNREADABLE as error:
        raise InputError(f"The measurements {path} cannot be read: {error}.", hint=HINT) from error
    except KeyError as error:
        raise foreign from error


def _id(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the id, which names files and so must not lead anywhere else."""
    image_id = str(arrays["id"])
    plain = image_id == Path(image_id).name and "\\" not in image_id and "\0" not in image_id
    if not image_id or not plain or len(image_id.encode(errors="replace")) > MAX_ID:
        raise InputError(
            f"The measurements {path} have the id {image_id[:200]!r}, which cannot name files."
        )
    return image_id


def _origin(path: Path, arrays: Mapping[str, np.ndarray]) -> Origin:
    try:
        operator, noise = (json.loads(str(arrays[name])) for name in ("operator", "noise"))
        shape, seed = tuple(int(n) for n in arrays["image_shape"]), int(arrays["seed"])
    except (ValueError, TypeError) as error:
        raise InputError(f"The measurements {path} are damaged: {error}.") from error
    if not isinstance(operator, dict) or not isinstance(noise, dict) or not 0 <= seed < 2**63:
        raise InputError(f"The measurements {path} are damaged: their origin makes no sense.")
    return Origin(shape, seed, str(arrays["task"]), operator, noise)


def find_measurements(path: Path) -> dict[str, Path]:
    """Return the files of measurements at a path by image id; nothing when there are none.

    Pictures of the same names beside them, as a run writes them, are left alone.

    Raises:
        InputError: two files have one id, their origins differ, or there are pictures of other images.
    """
    try:
        files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
        files = [f for f in files if not f.name.startswith(".") and f.is_file()]
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)[:200]} cannot be read: {error}.") from error
    saved = [f for f in files if f.suffix.lower() == SUFFIX]
    names = {f.stem for f in saved}
    others = [f for f in files if f.suffix.lower() in SUFFIXES and f.stem not in names]
    if saved and others:
        raise InputError(
            f"{path} holds files of measurements, and pictures such as {others[0].name} too.",
            hint="Put them into folders apart: measurements are given, pictures are measured.",
        )
    return _by_id(saved)


def _by_id(files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    # Some disks do not tell upper from lower case.
    seen: dict[str, Path] = {}
    first: Origin | None = None
    for file in files:
        image_id, origin = load_origin(file)
        first = first or origin
        if first != origin:
            raise InputError(
                f"{files[0]} and {file} were not measured alike: {_difference(first, origin)}.",
                hint="One run is for one operator, noise and seed; put them into folders apart.",
            )
        if image_id.casefold() in seen:
            raise InputError(
                f"{seen[image_id.casefold()]} and {file} are both of the image {image_id!r}."
            )
        seen[image_id.casefold()] = found[image_id] = file
    return found


def _difference(one: Origin, other: Origin) -> str:
    name = next(n for n in vars(one) if getattr(one, n) != getattr(other, n))
    return f"{name} {getattr(one, name)} and {getattr(other, name)}"
