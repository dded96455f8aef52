"""Which images are at a path, by id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ilo_pl.errors import InputError
from ilo_pl.io.images import SUFFIXES

# A file name may have 255 bytes, and results add to it.
MAX_ID = 180
LIST_SUFFIX = ".txt"


def find_images(path: Path) -> dict[str, Path]:
    """Return the images at a path by id: one file, every image of a folder, sorted, or those of a list.

    A list is a ``.txt`` file with a path on each line, relative to its folder; what begins with ``#`` is
    left out. The id is the file's name without its suffix.

    Raises:
        InputError: there is nothing there, no image in the folder, two files with one id, or a name
            that is too long.
    """
    try:
        if path.is_file():
            files = _listed(path) if path.suffix.lower() == LIST_SUFFIX else [path]
        else:
            files = _images_in(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)[:200]} cannot be read: {error}.") from error
    found: dict[str, Path] = {}
    for file in files:
        # Some disks do not tell upper from lower case.
        key = file.stem.casefold()
        if key in found:
            raise InputError(
                f"{found[key].name} and {file.name} in {path} would have the same id.",
                hint="Rename one: results are named by the file name without its suffix.",
            )
        if len(file.stem.encode()) > MAX_ID:
            raise InputError(
                f"The name of {file} is too long to name results by it.",
                hint=f"Shorten it to {MAX_ID} bytes.",
            )
        found[key] = file
    return {file.stem: file for file in files}


def file_for(image_id: str, path: Path, files: Mapping[str, Path]) -> Path | None:
    """Return what goes with an image: the file of its name, or the one that serves all.

    Args:
        image_id: id of the image.
        path: what the user named: a picture serves all images, in a folder or a list each has its own.
        files: what :func:`find_images` found there.
    """
    return files.get(image_id, path if path in files.values() else None)


def _images_in(path: Path) -> list[Path]:
    """Return the images of a folder; hidden files, such as macOS leaves behind, are none."""
    if not path.is_dir():
        raise InputError(f"There is no file or folder {path}.")
    files = [
        file
        for file in sorted(path.iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise InputError(f"The folder {path} holds no image.", choices=SUFFIXES)
    return files


def _listed(path: Path) -> list[Path]:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not files:
        raise InputError(f"The list {path} names no image.", hint="Write one path on each line.")
    return files
