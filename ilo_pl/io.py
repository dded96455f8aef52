"""Images in, run folders out; nothing is ever left half written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import InputError, OutputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# A file name may have 255 bytes, and results add to it.
MAX_ID = 180
MAX_PART = 255
LIST_SUFFIX = ".txt"
# A third of the time of zlib's default, for files a tenth larger.
PNG_COMPRESSION = 3
FIRST_TURNED = 5  # EXIF orientations from here on swap width and height


@dataclass(frozen=True)
class LoadedImage:
    """A picture from a file.

    Args:
        rgb: ``(3, H, W)`` float32 in [-1, 1].
        alpha: ``(H, W)`` float32 in [0, 1], or ``None`` when the file has no transparency.
    """

    rgb: Tensor
    alpha: Tensor | None

    @property
    def bright(self) -> Tensor:
        """Where the picture, as a mask, observes: ``(H, W)`` bool, true from mid-grey on."""
        return self.rgb.mean(0) >= 0


def to_bytes(image: Tensor) -> Tensor:
    """Round images in [-1, 1] to uint8 in [0, 255]."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_picture(image: Tensor) -> Image.Image:
    """Return a picture to be saved.

    Args:
        image: ``(3, H, W)`` or, with alpha, ``(4, H, W)``; uint8, or float in [-1, 1].
    """
    data = to_bytes(image) if image.is_floating_point() else image
    return Image.fromarray(np.ascontiguousarray(data.permute(1, 2, 0).cpu().numpy()))


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


def file_for(files: Mapping[str, Path], image_id: str) -> Path | None:
    """Return what goes with an image: the file of its name, or the only one, which goes with all."""
    only = next(iter(files.values())) if len(files) == 1 else None
    return files.get(image_id, only)


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


def image_size(path: Path) -> tuple[int, int]:
    """Return an image's width and height as :func:`load_image` would give them, from its header alone.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _explained(path), Image.open(path) as file:
        # PNG's own getexif() would read the whole picture.
        exif = Image.Image.getexif(file)
        turned = exif.get(ExifTags.Base.Orientation, 1) >= FIRST_TURNED
        return file.size[::-1] if turned else file.size


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image, whatever its name says.", choices=SUFFIXES
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"The image {path} cannot be read: {error}.") from error


def load_image(path: Path) -> LoadedImage:
    """Read an image file of any common mode: RGB, grey, palette, with alpha, 1 to 16 bits.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _explained(path), Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return LoadedImage(_deep_grey(path, image), None)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = torch.from_numpy(np.array(image.getchannel("A"))).float() / 255
    rgb = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return LoadedImage(rgb.float() / 127.5 - 1, alpha)


def _deep_grey(path: Path, image: Image.Image) -> Tensor:
    """Return a greyscale image of more than 8 bits as RGB in [-1, 1]."""
    values = torch.from_numpy(np.array(image).astype(np.float32))
    if image.mode == "F" or float(values.max()) > 65535 or float(values.min()) < 0:
        raise InputError(
            f"{path} holds numbers outside 0 to 65535 (mode {image.mode}).",
            hint="Save it as an 8-bit or 16-bit image.",
        )
    return (values / 32767.5 - 1).expand(3, -1, -1).clone()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block succeeds.

    Raises:
        OutputError: the file system refuses, for example because it is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise _explain(path, error) from error
    finally:
        with suppress(OSError):  # a name that could not be written cannot be removed either
            temporary.unlink(missing_ok=True)


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

    def write(self, name: str, writer: Callable[[Path], object]) -> Path:
        """Write one file through a temporary name and return its path."""
        path = self.path / name
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
            lambda path: picture.save(path, "PNG", compress_level=PNG_COMPRESSION),
        )
