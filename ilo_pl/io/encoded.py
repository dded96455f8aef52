"""What pictures are read from: a file on the disk, or bytes that stand for one."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO


@dataclass(frozen=True)
class Encoded:
    """A picture file whose bytes are at hand: from an object store, an archive, a request.

    Args:
        name: what errors call it, with its suffix if it has one; such as the address it was read from.
        data: its bytes.
    """

    name: str
    data: bytes

    @property
    def suffix(self) -> str:
        """The suffix of its name."""
        return PurePosixPath(self.name).suffix

    def opened(self) -> BinaryIO:
        """Return its bytes as a file."""
        return io.BytesIO(self.data)

    def __str__(self) -> str:
        return self.name


PictureFile = Path | Encoded


def open_bytes(file: PictureFile) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it cannot be opened.
    """
    return file.opened() if isinstance(file, Encoded) else file.open("rb")
