"""Pictures of more than 8 bits: which number is white."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ilo_pl.errors import InputError
from ilo_pl.io.encoded import PictureFile

BITS, PHOTOMETRIC, MOST, SAMPLE_FORMAT = 258, 262, 281, 339  # tags of TIFF 6.0
UNSIGNED = 1
WHITE_IS_ZERO = 0
WHITE_16 = 65535
# 16-bit files of 12-bit cameras end here; anything as dark would be seen as black.
DARK = 4096
BLACK = (
    "so that it would be nearly black. If it is of 12 bits, multiply its numbers by 16; if it is as dark, "
    "save it with 8 bits."
)
HINT = "Save it with 8 bits, or with 16 bits from black = 0 to white = 65535."


class Scale(NamedTuple):
    """How the numbers of a picture are meant.

    Args:
        white: the number that is white; ``None`` where the file does not tell.
        inverted: whether that number is black and 0 is white.
    """

    white: float | None
    inverted: bool = False


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture's greys are numbers of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def is_halved(file: Image.Image) -> bool:
    """Return whether Pillow keeps the upper 8 of the 16 bits of an opened picture's colours."""
    args = [tile[3] for tile in getattr(file, "tile", [])]
    raw = [a if isinstance(a, tuple) else (a,) for a in args]
    return any(str(a[0]).partition(";16")[1] or WHITE_16 in a[1:] for a in raw if a)


def check_colours(path: PictureFile, image: Image.Image) -> None:
    """Make sure that colours of which the upper 8 of 16 bits were kept were meant as 16 bits.

    Raises:
        InputError: all are so small that they must be meant otherwise.
    """
    colours = image.getbands()[: 1 if image.mode == "LA" else 3]
    most = max(int(np.array(image.getchannel(band)).max()) for band in colours)
    if image.mode != "CMYK" and 0 < most <= DARK // 256:
        raise InputError(f"{path} holds colours up to about {most * 256} of 65535, {BLACK}")


def scale_of(file: Image.Image) -> Scale:
    """Return the scale of a picture from its header.

    Pillow brings all formats but TIFF to 16 bits itself.
    """
    tags: Any = getattr(file, "tag_v2", None)
    if tags is None:
        return Scale(1.0 if file.mode == "F" else WHITE_16)
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if file.mode == "F":
        return Scale(1.0, inverted)
    declared = tags.get(MOST, 0)
    most = int(declared[0] if isinstance(declared, tuple) else declared)
    bits = int(tags[BITS][0])
    # Some programs write the largest number of the picture itself here, which is no scale.
    if 0 < most < 1 << bits and most & (most + 1) == 0:
        return Scale(most, inverted)
    unsigned = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
    return Scale((1 << bits) - 1 if unsigned and bits <= 16 else None, inverted)


def grey_levels(path: PictureFile, image: Image.Image, scale: Scale) -> npt.NDArray[np.float32]:
    """Return a picture's greys ``(H, W)`` in [-1, 1].

    Raises:
        InputError: the file does not tell which number is white, there are numbers beyond it, or all are so
            small that they must be meant otherwise.
    """
    values = np.array(image).astype(np.float32)
    least, most = float(values.min()), float(values.max())
    kind = "floating-point numbers" if image.mode == "F" else "whole numbers"
    holds = f"{path} holds {kind} from {least:g} to {most:g}"
    if scale.white is None:
        raise InputError(f"{holds}, and does not tell which of them is white. {HINT}")
    if not 0 <= least <= most <= scale.white:  # also where there is a NaN
        raise InputError(f"{holds}; those from 0 to {scale.white:g} are read. {HINT}")
    if scale.white == WHITE_16 and 0 < most < DARK:
        raise InputError(f"{holds} of 65535, {BLACK}")
    greys = values / np.float32(scale.white / 2) - 1
    return -greys if scale.inverted else greys
