"""Images in, run folders out; nothing is ever left half written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ilo_pl.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FIRST_TURNED = 5  # EXIF orientations from here on swap width and height

# 8-bit grey levels in a unit of [-1, 1].
GREY_LEVELS = 127.5


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
        """Where the picture, as a mask, observes: ``(H, W)`` bool, true from mid-grey on where opaque."""
        bright = self.rgb.mean(0) >= 0
        return bright if self.alpha is None else bright & (self.alpha >= 0.5)


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
