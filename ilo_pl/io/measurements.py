"""Measurements in files that a run can be repeated from: one ``.npz`` for each image."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.io.archive import MOST_TEXT, read_array, read_settings, read_text
from ilo_pl.io.find import MAX_ID
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.formats import SUFFIXES, UNREADABLE

FORMAT = "ilo_pl.measurements/1"
SUFFIX = ".npz"
ONE_ARRAY = b"\x93NUMPY"
# Twenty times what a picture of 1024 x 1024 and its masks take.
MOST_BYTES = 1 << 28
MOST_ARRAYS, MOST_AXES, MOST_SIDE = 64, 4, 1 << 16
# Control characters, as in terminals' commands.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
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
    with _opened(path) as archive:
        image_id, origin = _id(archive), _origin(archive)
        y = read_array(archive, "y", MOST_BYTES)
        left = MOST_BYTES - y.nbytes
        masks: list[np.ndarray[Any, Any]] = []
        while f"mask{len(masks)}.npy" in archive.namelist():
            masks.append(read_array(archive, f"mask{len(masks)}", left))
            left -= masks[-1].nbytes
    if y.dtype != np.float32 or y.ndim == 0 or y.size == 0 or not np.isfinite(y).all():
        raise InputError(f"The measurements in {path} are not finite float32 numbers.")
    if any(mask.dtype != bool or mask.ndim != 3 or len(mask) != 1 for mask in masks):
        raise InputError(f"The masks in {path} are not of shape (1, H, W), true and false.")
    return Measurements(
        image_id, origin, torch.from_numpy(y), tuple(torch.from_numpy(mask) for mask in masks)
    )


def load_origin(path: Path) -> tuple[str, Origin]:
    """Read the image's id and how its measurements were made, without the measurements.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    with _opened(path) as archive:
        return _id(archive), _origin(archive)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a file of measurements; whatever is wrong with it, also in the block, is an error for people."""
    foreign = InputError(f"{path} is not a file of measurements of ilo_pl ({FORMAT}).", hint=HINT)
    try:
        with path.open("rb") as file:
            if file.read(len(ONE_ARRAY)) == ONE_ARRAY:
                raise foreign
            with zipfile.ZipFile(file) as archive:
                if len(archive.namelist()) > MOST_ARRAYS or read_text(archive, "format") != FORMAT:
                    raise foreign
                yield archive
    except InputError:
        raise
    except KeyError as error:
        raise foreign from error
    except Exception as error:  # on damaged archives zipfile and numpy raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(
            f"The measurements {path} are damaged and cannot be read: {reason[:300]}.", hint=HINT
        ) from error


def _id(archive: zipfile.ZipFile) -> str:
    """Return the id, which names files and so must not lead anywhere else."""
    image_id = read_text(archive, "id")
    plain = image_id == Path(image_id).name and "\\" not in image_id
    if not plain or UNWRITABLE.search(image_id) or not 0 < len(image_id.encode()) <= MAX_ID:
        raise InputError(
            f"The measurements {archive.filename or ''} have the id {image_id[:200]!r}, which cannot "
            "name files."
        )
    return image_id


def _origin(archive: zipfile.ZipFile) -> Origin:
    shape, seed = (read_array(archive, name, MOST_TEXT) for name in ("image_shape", "seed"))
    if shape.dtype.kind not in "iu" or shape.ndim != 1 or seed.dtype.kind not in "iu" or seed.ndim:
        raise ValueError("image_shape and seed are no whole numbers")
    if not 0 < shape.size <= MOST_AXES or not all(0 < n <= MOST_SIDE for n in shape.tolist()):
        raise ValueError(f"image_shape {shape.tolist()[:MOST_AXES]} is of no image")
    if not 0 <= int(seed) < 1 << 63:
        raise ValueError(f"seed {seed} is not between 0 and 2^63")
    operator, noise = (read_settings(read_text(archive, name)) for name in ("operator", "noise"))
    task = read_text(archive, "task")
    return Origin(tuple(shape.tolist()), int(seed), task, operator, noise)


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
    others = [
        f for f in files if f.suffix.lower() in (*SUFFIXES, *UNREADABLE) and f.stem not in names
    ]
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
    if first and not all(isinstance(s.get("name"), str) for s in (first.operator, first.noise)):
        raise InputError(
            f"The measurements {files[0]} do not say by which operator and noise they were made.",
            hint=HINT,
        )
    return found


def _difference(one: Origin, other: Origin) -> str:
    name = next(n for n in vars(one) if getattr(one, n) != getattr(other, n))
    return f"{name} {getattr(one, name)} and {getattr(other, name)}"
