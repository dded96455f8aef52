"""Which images are at a path, by id."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from ilo_pl.errors import InputError
from ilo_pl.io.formats import SUFFIXES, UNREADABLE, printable

# A file name may have 255 bytes, and results add to it.
MAX_ID = 180
LIST_SUFFIX = ".txt"
# The longer marks first: that of UTF-32 begins like one of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MARK = "\ufeff"


def find_images(path: Path) -> dict[str, Path]:
    """Return the images at a path by id: one file, every image of a folder, sorted, or those of a list.

    A list is a ``.txt`` file with a path on each line, relative to its folder; what begins with ``#`` is
    left out. The id is the file's name without its suffix. What looks like a picture and cannot be read, such
    as a raw photo, is among them: reading it says why, and what to do.

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
        shown = printable(str(path)[:200])
        raise InputError(f"{shown} cannot be read: {error}.") from error
    keyed([(printable(file.stem), str(file)) for file in files], str(path))
    return {printable(file.stem): file for file in files}


def keyed(files: Sequence[tuple[str, str]], place: str) -> None:
    """Make sure that images can be told apart by their ids, and results named by them.

    Args:
        files: their ids and paths.
        place: where they are.

    Raises:
        InputError: two have one id, or one is too long.
    """
    found: dict[str, str] = {}
    for image_id, file in files:
        # Some disks do not tell upper from lower case.
        key = image_id.casefold()
        if key in found:
            names = (PurePath(f).name for f in (found[key], file))
            raise InputError(
                f"{' and '.join(names)} in {place} would have the same id.",
                hint="Rename one: results are named by the file name without its suffix.",
            )
        if len(image_id.encode()) > MAX_ID:
            raise InputError(
                f"The name of {file} is too long to name results by it.",
                hint=f"Shorten it to {MAX_ID} bytes.",
            )
        found[key] = file


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
    # A link that leads nowhere is among them, to be named as what cannot be read.
    seen = [
        f
        for f in sorted(path.iterdir())
        if not f.name.startswith(".") and (f.is_file() or (f.is_symlink() and not f.exists()))
    ]
    files = [file for file in seen if file.suffix.lower() in SUFFIXES]
    others = [file for file in seen if file.suffix.lower() in UNREADABLE]
    if not files and not others:
        raise InputError(f"The folder {path} holds no image.", choices=SUFFIXES)
    return sorted([*files, *_without_twins(others, files)])


def _without_twins(others: Sequence[Path], files: Sequence[Path]) -> list[Path]:
    """Return the files that cannot be read, but for those whose picture lies beside them, as cameras write it."""
    taken = {file.stem.casefold() for file in files}
    kept: list[Path] = []
    twins: list[Path] = []
    for file in others:
        (twins if file.stem.casefold() in taken else kept).append(file)
        taken.add(file.stem.casefold())
    if twins:
        more = f", and so are {len(twins) - 1} more" if len(twins) > 1 else ""
        text = f"{twins[0]} is left out for the file of its name beside it{more}."
        warnings.warn(printable(text), stacklevel=2)
    return kept


def _listed(path: Path) -> list[Path]:
    """Return the files of a list: UTF-8, or another UTF with its mark; other bytes are taken as the disk has them."""
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    text = data.decode(encoding) if encoding else os.fsdecode(data)
    if "\0" in text:
        raise InputError(f"The list {path} is no text in UTF-8.", hint="Save it as UTF-8.")
    # Lists that were joined have marks inside, too.
    lines = [line.strip().removeprefix(MARK).strip() for line in text.splitlines()]
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not files:
        raise InputError(f"The list {path} names no image.", hint="Write one path on each line.")
    return files
