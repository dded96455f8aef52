"""Masks as pictures: white is observed, black is missing, as ``task=inpainting operator.file`` reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.operators import Mask
from ilo_pl.prepare.alignment import align
from ilo_pl.prepare.keys import Box
from ilo_pl.prepare.warp import Array, warp


def box_mask(size: tuple[int, int], boxes: Sequence[Box]) -> Tensor:
    """Miss every pixel that lies in a box.

    Args:
        size: width and height.
        boxes: ``(left, top, right, bottom)`` each; right and bottom exclusive.

    Returns:
        ``(H, W)`` bool, true where a pixel is observed.

    Raises:
        ConfigurationError: a box does not lie within the image.
        InputError: no pixel is left.
    """
    width, height = size
    observed = torch.ones(height, width, dtype=torch.bool)
    for box in boxes:
        observed &= Mask.box((1, height, width), box).mask[0, 0].bool()
    return _some(observed)


def random_mask(size: tuple[int, int], fraction: float, seed: int, name: str) -> Tensor:
    """Observe a random share of the pixels: those that a run draws for an image of this name.

    Args:
        size: width and height.
        fraction: share of the pixels observed, in (0, 1].
        seed: seed of the draw.
        name: the image's id.

    Returns:
        ``(H, W)`` bool.

    Raises:
        ConfigurationError: the fraction leaves no pixel or is above 1.
    """
    return Mask.random((1, size[1], size[0]), fraction, seed, [name]).mask[0, 0].bool()


def picture_mask(
    picture: Tensor,
    threshold: float,
    *,
    invert: bool = False,
    size: tuple[int, int] | None = None,
    square: tuple[Array, int] | None = None,
) -> Tensor:
    """Take a mask from the brightness of a picture.

    Args:
        picture: ``(3, H, W)`` float in [-1, 1].
        threshold: brightness in [0, 1] (mean of the channels) from which on a pixel is observed.
        invert: what is as bright is missing instead.
        size: width and height to resample to.
        square: the picture was drawn over a photo: corners and size of the face's square in it, which is cut out.

    Returns:
        ``(H, W)`` bool.

    Raises:
        InputError: nothing is observed.
    """
    grey = (picture.mean(0, keepdim=True) + 1) / 2
    if square is not None:
        grey = align(grey, *square)
    elif size is not None and size != (picture.shape[2], picture.shape[1]):
        grey = warp(grey, _stretch((picture.shape[2], picture.shape[1]), size), size[1], size[0])
    # Grey levels are whole numbers of 255ths, which float32 does not hold exactly.
    observed = grey[0] >= threshold - 1e-6
    return _some(~observed if invert else observed)


def _stretch(old: tuple[int, int], new: tuple[int, int]) -> Array:
    """Return the matrix from pixels of a picture of size ``new`` to those of one of size ``old``."""
    ratio = np.array(old) / np.array(new)
    return np.column_stack([np.diag(ratio), 0.5 * ratio - 0.5])


def _some(observed: Tensor) -> Tensor:
    if not bool(observed.any()):
        raise InputError(
            "This mask would observe no pixel at all.",
            hint="White is observed and black is missing; invert=true turns a picture around.",
        )
    return observed
