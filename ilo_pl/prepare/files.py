"""Files of ``ilo-pl prepare``: where results go, which pictures belong together, what an aligned face came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from ilo_pl.errors import ConfigurationError, IloError, InputError, OutputError
from ilo_pl.io.find import find_images
from ilo_pl.io.folder import RunFolder, atomic
from ilo_pl.io.formats import printable
from ilo_pl.io.images import load_image, to_picture
from ilo_pl.prepare.alignment import check_square
from ilo_pl.prepare.warp import Array

RECORD_FORMAT = "ilo_pl.aligned/1"
# Sixteen times what the largest generators make.
MOST_SIZE = 1 << 14
Result = TypeVar("Result")


@dataclass(frozen=True)
class Record:
    """Where an aligned face came from; a JSON file beside its picture.

    Args:
        photo: file name of the photo.
        photo_size: width and height of the upright photo.
        square: corners ``(4, 2)`` in the photo: top left, bottom left, bottom right, top right.
        size: height and width of the aligned picture.
    """

    photo: str
    photo_size: tuple[int, int]
    square: Array
    size: int

    def text(self) -> str:
        """Return the file's content."""
        content = {
            "format": RECORD_FORMAT,
            "photo": self.photo,
            "photo_size": list(self.photo_size),
            "square": self.square.tolist(),
            "size": self.size,
        }
        return json.dumps(content, indent=1) + "\n"


def read_record(path: Path) -> Record:
    """Read the record of an aligned face.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        if content["format"] != RECORD_FORMAT:
            raise ValueError(f"its format is not {RECORD_FORMAT}")
        width, height = (int(v) for v in content["photo_size"])
        square = np.array(content["square"], dtype=np.float64)
        size = int(content["size"])
        if square.shape != (4, 2) or not np.isfinite(square).all() or min(width, height, size) < 1:
            raise ValueError("its square cannot be one")
        sides = np.linalg.norm(np.roll(square, -1, 0) - square, axis=1)
        if not sides.min() > 0 or not np.allclose(sides, sides[0], rtol=1e-3):
            raise ValueError("its square has sides of different lengths")
        if size > MOST_SIZE:
            raise ValueError(f"its size {size} is above {MOST_SIZE}")
        check_square(square, height, width)
        photo = str(content["photo"])
        photo.encode()  # half characters could not be printed
        return Record(photo, (width, height), square, size)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError(
            f"The record {path} of an aligned face cannot be used: {error}.",
            hint="ilo-pl prepare align writes one beside each face that it cuts out.",
        ) from error


def read_records(folder: Path) -> dict[str, Record]:
    """Read all records of a folder by the name of their face.

    Raises:
        InputError: there is none, or one is damaged.
    """
    found = {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise InputError(
            f"{folder} holds no record of an aligned face.",
            hint="Give the folder that ilo-pl prepare align wrote.",
        )
    return found


def destinations(output: str, ids: Sequence[str], *, folder_only: bool = False) -> dict[str, Path]:
    """Return where the picture of each id is written: ``output`` itself if it ends in .png, or within it.

    Raises:
        OutputError: it exists already, or is one file for several pictures.
    """
    path = Path(output)
    if folder_only or path.suffix.lower() != ".png":
        RunFolder(path).check()
        return {name: path / f"{name}.png" for name in ids}
    if len(ids) != 1:
        raise OutputError(
            f"{output} is one file and there are {len(ids)} pictures to write.",
            hint="Give a folder as output.",
        )
    check_new(path)
    return {ids[0]: path}


def check_new(path: Path) -> None:
    """Make sure that a file is not there.

    Raises:
        OutputError: it is.
    """
    if path.exists():
        raise OutputError(
            f"The output {path} exists already; nothing is overwritten.",
            hint="Give another name, or remove it.",
        )


def write_png(path: Path, image: Tensor, profile: bytes | None = None) -> None:
    """Write a PNG.

    Args:
        path: the file.
        image: ``(C, H, W)`` float in [-1, 1] or uint8, with three channels or four (alpha); or a mask,
            ``(H, W)`` bool.
        profile: the ICC profile of its colours.
    """
    if image.ndim == 2:
        picture = Image.fromarray((image.byte() * 255).numpy())
    else:
        picture = to_picture(image)
    with atomic(path) as temporary:
        picture.save(temporary, "PNG", icc_profile=profile)


def together(inputs: Sequence[str]) -> dict[str, list[Path]]:
    """Return which pictures belong together, by id.

    A file goes with everything; of folders those pictures go together that have one name.

    Raises:
        InputError: a folder lacks a picture that another one has.
    """
    found = [find_images(Path(path)) for path in inputs]
    many = [i for i, path in enumerate(inputs) if Path(path).is_dir() or len(found[i]) > 1]
    ids = list(found[many[0]] if many else found[0])
    for i in many:
        different = sorted(set(ids) ^ set(found[i]))
        if different:
            raise InputError(
                f"{inputs[many[0]]} and {inputs[i]} do not hold the same pictures: {different[0]!r} "
                "is in one of them only.",
                hint="Pictures of folders go together by their names.",
            )
    return {
        name: [
            files[name] if i in many else next(iter(files.values()))
            for i, files in enumerate(found)
        ]
        for name in ids
    }


def load_equal(paths: Sequence[Path]) -> list[Tensor]:
    """Load pictures ``(3, H, W)`` that must be of one size.

    Raises:
        InputError: they are not, or one cannot be read.
    """
    images = [load_image(path).rgb for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                f"{path} is {image.shape[2]} x {image.shape[1]} pixels and {paths[0]} is "
                f"{images[0].shape[2]} x {images[0].shape[1]}.",
                hint="Align both to one size first: ilo-pl prepare align.",
            )
    return images


def counted(number: int, what: str) -> str:
    """Return ``1 photo`` or ``2 photos``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def each(
    jobs: Mapping[str, Callable[[], Result]], errors: Console
) -> tuple[dict[str, Result], int]:
    """Do all jobs; those that a file makes impossible are named, the others done.

    Args:
        jobs: what to do, by the file it is for.
        errors: where failures are printed.

    Returns:
        The results by file, and how many jobs failed.

    Raises:
        IloError: every one failed.
    """
    done: dict[str, Result] = {}
    failed: dict[str, IloError] = {}
    for name, job in jobs.items():
        try:
            done[name] = job()
        except (InputError, ConfigurationError) as error:  # a key that does not fit this file
            failed[name] = error
    if jobs and not done:
        name, problem = next(iter(failed.items()))
        if len(failed) == 1:
            raise problem
        raise InputError(
            f"None of {len(failed)} files could be used; the first, {printable(name)}: {problem}"
        )
    for name, problem in failed.items():
        errors.print(
            f"[bold red]not done:[/] {escape(printable(name))}: {escape(str(problem))}",
            highlight=False,
        )
    return done, len(failed)
