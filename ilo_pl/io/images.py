"""Pictures in: as people have them, upright and in sRGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, ImageSequence
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.io.colour import Profile, grey_curve, profile_of, to_srgb
from ilo_pl.io.encoded import PictureFile, open_bytes
from ilo_pl.io.formats import opened, quiet
from ilo_pl.io.levels import check_colours, grey_levels, is_deep, is_halved, scale_of

FIRST_TURNED = 5  # EXIF orientations from here on swap width and height
# Further pictures of these are previews, depth or gain maps.
ONE_PICTURE = ("MPO", "HEIF")
PNG_MARK = 8
PNG_TEXTS = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
TIFF_WIDTH, TIFF_HEIGHT = 256, 257

# 8-bit grey levels in a unit of [-1, 1].
GREY_LEVELS = 127.5


@dataclass(frozen=True)
class LoadedImage:
    """A picture from a file.

    Args:
        rgb: ``(3, H, W)`` float32 in [-1, 1], sRGB.
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


def shrunk(images: Tensor, side: int) -> Tensor:
    """Average images ``(B, C, H, W)`` down to a longer side of so many pixels; smaller ones stay as they are."""
    factor = side / max(images.shape[-2:])
    return images if factor >= 1 else F.interpolate(images, scale_factor=factor, mode="area")


def image_size(path: PictureFile) -> tuple[int, int]:
    """Return an image's width and height as :func:`load_image` would give them, from its header alone.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with opened(path) as file, quiet():
        size = file.size
        if file.format == "TIFF":
            # Versions of Pillow differ in whether they have turned its size.
            tags = getattr(file, "tag_v2", {})
            size = tags[TIFF_WIDTH], tags[TIFF_HEIGHT]
        if file.format == "PNG" and _texts_behind_pixels(path):
            file.load()
        # PNG's own getexif() would read the whole picture.
        exif = Image.Image.getexif(file)
        turned = exif.get(ExifTags.Base.Orientation, 1) >= FIRST_TURNED
        return size[::-1] if turned else size


def _texts_behind_pixels(path: PictureFile) -> bool:
    """Return whether a PNG file says something, such as its orientation, behind its pixels."""
    behind = False
    with open_bytes(path) as file:
        file.seek(PNG_MARK)
        while len(head := file.read(8)) == 8:
            if behind and head[4:] in PNG_TEXTS:
                return True
            behind = behind or head[4:] == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def load_image(path: PictureFile | str) -> LoadedImage:
    """Read an image file of any common format and mode: RGB, grey, CMYK, palette, with alpha, 1 to 16 bits.

    It is turned upright by its EXIF data, and its colours are converted from their profile to sRGB. Of several
    frames or pages the first is read, with a warning.

    Raises:
        InputError: the file cannot be read as an image.
    """
    path = Path(path) if isinstance(path, str) else path
    with opened(path) as file, quiet():
        _tell_of_frames(path, file)
        image, alpha, _ = _decoded(path, file)
    return LoadedImage(image if image.is_floating_point() else _unit(image), alpha)


def load_photo(path: Path) -> tuple[Tensor, Profile | None]:
    """Read a photo whose pixels are kept: in the colours of its own profile, where that is one of RGB.

    Returns:
        ``(3, H, W)`` or, with alpha, ``(4, H, W)``, uint8, and that profile; without one they are in sRGB.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with opened(path) as file, quiet():
        _tell_of_frames(path, file)
        image, alpha, profile = _decoded(path, file, own=True)
    pixels = to_bytes(image) if image.is_floating_point() else image
    if alpha is not None:
        pixels = torch.cat([pixels, (alpha[None] * 255).round().byte()])
    return pixels, profile


def frames_of(path: Path) -> Iterator[Tensor]:
    """Yield the frames or pages of a picture, ``(3, H, W)`` uint8 in sRGB; those before any damage.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with opened(path) as file:
        for page in ImageSequence.Iterator(file):
            with quiet():
                image = _decoded(path, page)[0]
            yield to_bytes(image) if image.is_floating_point() else image


def count_frames(path: Path) -> int:
    """Return how many frames or pages a picture has.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with opened(path) as file:
        return getattr(file, "n_frames", 1)


def _tell_of_frames(path: PictureFile, file: Image.Image) -> None:
    count = 1 if file.format in ONE_PICTURE else getattr(file, "n_frames", 1)
    if count > 1:
        _warn(
            f"{path} has {count} frames, of which the first is used. ilo-pl prepare frames "
            "makes pictures of all of them."
        )


@lru_cache(maxsize=1024)
def _warn(text: str) -> None:
    """Warn of a file once: it is read for its size, for its pixels, and for what is drawn of it."""
    warnings.warn(text, stacklevel=3)


def _decoded(
    path: PictureFile, file: Image.Image, *, own: bool = False
) -> tuple[Tensor, Tensor | None, Profile | None]:
    """Return a picture's colours, its transparency in [0, 1], and, if they are its ``own``, their profile.

    The colours are ``(3, H, W)``: uint8, or float in [-1, 1] where the file has more than 8 bits.
    """
    alpha = None
    scale = scale_of(file) if is_deep(file) else None
    halved = is_halved(file)
    image = ImageOps.exif_transpose(file)
    image.load()
    if halved and scale is None:
        check_colours(path, image)
    profile, problem = profile_of(image)
    if problem:
        _warn(f"The colour profile of {path} {problem}; its colours are taken for sRGB.")
    if scale is not None:
        greys = grey_levels(path, image, scale)
        curve = grey_curve(profile)
        if curve is not None:
            greys = np.interp(greys, np.linspace(-1, 1, len(curve)), curve).astype(np.float32)
        # One grey that stands for what is transparent.
        clear = image.info.get("transparency")
        if clear is not None:
            alpha = (_tensor(image) != clear).float()
        return torch.from_numpy(greys).expand(3, -1, -1).clone(), alpha, None
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        alpha = _tensor(whole.getchannel("A")).float() / 255
        # A profile of greys wants greys.
        image = image.getchannel("L") if image.mode in ("L", "LA") else whole.convert("RGB")
    if own and profile is not None and profile.mode == "RGB":
        return _tensor(image.convert("RGB")).permute(2, 0, 1), alpha, profile
    return _tensor(to_srgb(image, profile)).permute(2, 0, 1), alpha, None


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))


def _unit(pixels: Tensor) -> Tensor:
    """Return uint8 pixels in [-1, 1]; in place, because photos are large."""
    return pixels.float().div_(GREY_LEVELS).sub_(1)
