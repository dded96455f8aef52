"""Run folders out; nothing is ever left half written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import OutputError
from ilo_pl.io.images import to_picture

MAX_PART = 255
# A third of the time of zlib's default, for files a tenth larger.
PNG_COMPRESSION = 3
# What file systems say that cannot do it, such as some over a network.
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def save_png(picture: Image.Image, file: Path | BinaryIO) -> None:
    """Write a picture as run folders have them."""
    picture.save(file, "PNG", compress_level=PNG_COMPRESSION)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block succeeds.

    Then it is on the disk, under its name: what is written later never outlives it when the power fails.

    Raises:
        OutputError: the file system refuses, for example because it is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _make_folder(path.parent)
        # Left by another process of this number, or a link that somebody put there.
        temporary.unlink(missing_ok=True)
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        raise _explain(path, error) from error
    finally:
        with suppress(OSError):  # a name that could not be written cannot be removed either
            temporary.unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, and have their names on the disk."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # which cannot open folders
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


def _explain(path: Path, error: Exception) -> OutputError:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    hint = "Free some space, then go on with resume=true." if full else ""
    reason = "no space is left on the disk" if full else str(error)
    return OutputError(f"{path} could not be written: {reason}.", hint=hint)


def _free_space(path: Path) -> int:
    """Return the free bytes where a folder would be made, after trying to write there.

    Raises:
        OSError: nothing can be written there.
    """
    if any(len(part.encode()) > MAX_PART for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, "a part of its name is too long")
    while not path.exists():
        if path.is_symlink():
            raise OSError(errno.ELOOP, f"{path} is a link that leads nowhere")
        path = path.parent
    with tempfile.TemporaryFile(dir=path):
        return shutil.disk_usage(path).free


class RunFolder:
    """The folder that one run writes.

    Args:
        path: the folder; made when the run begins, not before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, bytes_needed: int = 0) -> None:
        """Make sure that a run can be written here, without leaving a trace.

        Raises:
            OutputError: the folder holds something, cannot be written, or the disk is too full.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise OutputError(f"The output {self.path} is a file, not a folder.")
            if self.path.is_dir() and any(self.path.iterdir()):
                raise OutputError(
                    f"The output folder {self.path} is not empty; a run never writes into another's.",
                    hint="Give another folder with output=..., or empty this one.",
                )
            free = _free_space(self.path.absolute())
        except (OSError, ValueError, RuntimeError) as error:
            shown = str(self.path)[:200]
            raise OutputError(f"The output folder {shown} cannot be written: {error}.") from error
        if free < bytes_needed:
            raise OutputError(
                f"The run needs about {bytes_needed / 1e6:.0f} MB in {self.path} and "
                f"{free / 1e6:.0f} MB are free.",
                hint="Free some space or give another folder with output=...",
            )

    def inside(self, name: str) -> Path:
        """Return the path of a file of this folder, to be written.

        Args:
            name: its path from the folder.

        Raises:
            OutputError: a link on the way, as in a folder that somebody else made, may lead out of it.
        """
        path = self.path
        for part in Path(name).parts:
            path = path / part
            if path.is_symlink():
                raise OutputError(
                    f"{path} is a symbolic link; nothing is written through links within a run folder.",
                    hint="Put the folder or file itself there, or give another folder with output=...",
                )
        return path

    def write(self, name: str, writer: Callable[[Path], object]) -> Path:
        """Write one file through a temporary name and return its path.

        Raises:
            OutputError: it cannot be written, or lies behind a link.
        """
        path = self.inside(name)
        with atomic(path) as temporary:
            writer(temporary)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""
        return self.write(name, lambda path: path.write_text(text, "utf-8"))

    def write_image(self, kind: str, name: str, image: Tensor) -> Path:
        """Write a PNG into the subfolder ``kind``.

        Args:
            kind: subfolder.
            name: file name without suffix.
            image: ``(3, H, W)`` or, with alpha, ``(4, H, W)``; uint8, or float in [-1, 1].
        """
        return self._save(f"{kind}/{name}", to_picture(image))

    def write_images(self, images: Mapping[str, Tensor]) -> None:
        """Write PNGs at the same time: their compression is work for several cores.

        Args:
            images: as for :meth:`write_image`, by ``kind/name``.
        """
        pictures = {name: to_picture(image) for name, image in images.items()}
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._save, pictures, pictures.values()))

    def _save(self, name: str, picture: Image.Image) -> Path:
        return self.write(
            f"{name}.png",
            lambda path: save_png(picture, path),
        )
