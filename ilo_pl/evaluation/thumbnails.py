"""Small copies of pictures inside a page, as data URIs that together stay within a budget."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ilo_pl.io.images import load_image, to_picture

GREY = (128, 128, 128, 255)
# Bytes of all pictures of a page, as they stand in it: base64 makes four of three.
BUDGET = 26_000_000
# More than this no picture needs on a screen.
MOST_BYTES = 110_000
SIDES = (768, 512, 384, 256, 192, 128, 96, 64)
QUALITIES = (82, 60, 35)
# What a face takes at the first quality, per pixel; others may take more, and are made smaller then.
USUAL_BYTES = 0.13
# Up to this size every pixel is to be seen as it is.
SMALL = 128
# Grey levels of error that are drawn brightest; the colours follow the root, so that small errors show.
BRIGHTEST = 64


@dataclass(frozen=True)
class Embedded:
    """A picture inside a page.

    Args:
        uri: its data URI.
        width, height: size of the picture that it is a copy of.
        small: whether its pixels are to be drawn as squares.
    """

    uri: str
    width: int
    height: int
    small: bool


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """Return a small RGB copy; what is transparent becomes grey.

    Args:
        image: of any mode.
        side: the most pixels of its width and height.
    """
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, GREY), image.convert("RGBA"))
        # Averaging would drown single observed pixels in the grey around them.
        image.thumbnail((side, side), Image.Resampling.NEAREST)
    else:
        image = image.convert("RGB")
        image.thumbnail((side, side), Image.Resampling.BOX)
    return image.convert("RGB")


class Embedder:
    """Makes pictures for a page, each small enough that all of them fit.

    Args:
        count: how many there will be.
        budget: bytes of the page that they may take.
    """

    def __init__(self, count: int, budget: int = BUDGET) -> None:
        self._most = min(MOST_BYTES, budget * 3 // 4 // max(count, 1))

    def __call__(self, image: Image.Image) -> Embedded:
        """Return a picture as it stands in the page."""
        small = max(image.size) <= SMALL
        data = self._lossless(image) if small else None
        return Embedded(_uri(data or self._lossy(image)), *image.size, small)

    def _lossless(self, image: Image.Image) -> bytes | None:
        data = _webp(shrunk(image, SMALL), lossless=True)
        return data if len(data) <= self._most else None

    def _lossy(self, image: Image.Image) -> bytes:
        """Return the largest copy that fits; noise takes more bytes than a face does."""
        data = b""
        for side in [s for s in SIDES if s * s * USUAL_BYTES <= self._most] or SIDES[-1:]:
            copy = shrunk(image, side)
            for quality in QUALITIES:
                data = _webp(copy, quality=quality)
                if len(data) <= self._most:
                    return data
        return data


def opened(path: Path, *, foreign: bool = False) -> Image.Image:
    """Return a picture of a run folder or, ``foreign``, a user's own: upright and in sRGB.

    Raises:
        OSError, InputError: it cannot be read.
    """
    if foreign:
        return to_picture(load_image(path).rgb)
    with Image.open(path) as image:
        image.load()
    return image


def error_map(result: Image.Image, reference: Image.Image) -> Image.Image:
    """Return the absolute error of a picture, averaged over its channels, in colours from black to light yellow.

    The colours follow the root of the error, from 0 to 64 grey levels of 255.

    Args:
        result: the picture.
        reference: the true one, of the same size.
    """
    ours, true = (np.asarray(one.convert("RGB"), np.float32) for one in (result, reference))
    error = np.abs(ours - true).mean(2)
    level = np.sqrt(np.clip(error / BRIGHTEST, 0, 1))
    return Image.fromarray(_colours()[(255 * level).round().astype(np.uint8)])


def _colours() -> np.ndarray:
    """Return the colours of 256 levels, ``(256, 3)`` uint8."""
    from matplotlib import colormaps  # takes a third of a second to import

    return np.asarray(255 * colormaps["inferno"](np.arange(256))[:, :3]).round().astype(np.uint8)


def legend_uri() -> str:
    """Return the colours of :func:`error_map` in a row, from no error to the brightest."""
    return _uri(_webp(Image.fromarray(_colours()[None]), lossless=True))


def file_uri(path: Path) -> str:
    """Return a PNG file as a data URI.

    Raises:
        OSError: it cannot be read.
    """
    return _uri(path.read_bytes(), "png")


def _webp(image: Image.Image, *, quality: int = 80, lossless: bool = False) -> bytes:
    data = io.BytesIO()
    # A third of the time of the default method, for files a few percent larger.
    image.save(data, "WEBP", quality=quality, lossless=lossless, method=2)
    return data.getvalue()


def _uri(data: bytes, kind: str = "webp") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
