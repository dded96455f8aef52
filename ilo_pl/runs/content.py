"""What files hold, by digest: those that a run belongs to, and those that it has written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ilo_pl.config.run import RunConfig
from ilo_pl.errors import InputError
from ilo_pl.io.video import is_video
from ilo_pl.weights.registry import registry

# How the keys of images begin, and what stands for one that cannot be read.
IMAGE = "input "
UNREADABLE = ""
GROUPS = ("generator", "operator", "noise", "method", "follow")


class Stamp(NamedTuple):
    """What a file was: a file of the same size and time is taken for the same, as git does; else it is read."""

    size: int
    time: int
    digest: str


def stamp(path: Path, before: Stamp | None = None) -> Stamp:
    """Return what a file is.

    Args:
        path: the file.
        before: what it was, so that it need not be read if it has not been touched.

    Raises:
        OSError: it cannot be read.
    """
    known = path.stat()
    if before is not None and (known.st_size, known.st_mtime_ns) == (before.size, before.time):
        return before
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return Stamp(known.st_size, known.st_mtime_ns, digest)


def is_whole(path: Path, before: Stamp) -> bool:
    """Return whether a file is there and holds what it held."""
    try:
        return stamp(path, before).digest == before.digest
    except OSError:
        return False


def belongings(config: RunConfig, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files that a run's results depend on: its images, masks, weights, by what they are in it.

    Args:
        config: the run.
        images: its images, or files of measurements, by id.
    """
    given = Path(config.input or "")
    # The frames of a video are unpacked anew for every run.
    found = {"input": given} if is_video(given) else {f"{IMAGE}{i}": p for i, p in images.items()}
    for group in GROUPS:
        for key, text in _texts(config.model_dump(mode="json")[group], group):
            path = Path(text)
            if key.endswith(".name") or not text or not _exists(path):
                continue
            if path.is_file():
                found[key] = path
            else:
                files = (f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
                found |= {f"{key}/{file.name}": file for file in sorted(files)}
    return found


def content(
    config: RunConfig, files: Mapping[str, Path], before: Mapping[str, Stamp | str]
) -> dict[str, Stamp | str]:
    """Return what the files of :func:`belongings` hold, and the digest of registered weights.

    Args:
        config: the run.
        files: its files.
        before: what they held when the run was begun.

    Raises:
        InputError: one of them, that is no image, cannot be read.
    """
    found: dict[str, Stamp | str] = {}
    for key, path in files.items():
        known = before.get(key)
        try:
            found[key] = stamp(path, known if isinstance(known, Stamp) else None)
        except OSError as error:
            if not key.startswith(IMAGE):
                raise InputError(f"{path} cannot be read: {error.strerror}.") from None
            # It is left out of its batch with the reason, and the others are done.
            found[key] = UNREADABLE
    generator = config.generator
    # Those in the package are registered by the generator's name.
    entry = registry().get(generator.weights or generator.name.replace("_", "-"))
    if entry is not None and entry.sha256 and "generator.weights" not in found:
        found["generator.weights"] = entry.sha256
    return found


def replaced(
    before: Mapping[str, Stamp | str], now: Mapping[str, Stamp | str], files: Mapping[str, Path]
) -> list[str]:
    """Return a line for each file that is not what it was.

    Images that only one of the two has are left to the comparison of ids.
    """
    lines = []
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if _digest(old) == _digest(new) or (key.startswith(IMAGE) and None in (old, new)):
            continue
        place = f" ({files[key]})" if key in files else ""
        word = "was added" if old is None else "is gone" if new is None else "has other content"
        lines.append(f"{key}{place} {word}")
    return lines


def _digest(known: Stamp | str | None) -> str | None:
    return known.digest if isinstance(known, Stamp) else known


def _texts(node: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in nested mappings and lists by their dotted keys."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{name}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{name}.{index}")
    elif isinstance(node, str):
        yield name, node


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
