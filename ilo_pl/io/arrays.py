"""Pictures that are in memory: arrays and tensors, as users have them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.io.images import GREY_LEVELS, LoadedImage

CHANNELS = (1, 3, 4)
FORMS = (
    "a NumPy array (height, width, channels) or (height, width), or a tensor (channels, height, width); bytes from "
    "0 to 255, or floating-point numbers from -1 to 1"
)


def picture_of(given: npt.NDArray[np.generic] | Tensor, name: str) -> LoadedImage:
    """Return a picture as :func:`~ilo_pl.io.images.load_image` would, with the same numbers for the same bytes.

    Args:
        given: a NumPy array ``(H, W, C)`` or ``(H, W)``, or a tensor ``(C, H, W)``, with C = 1 (grey), 3 (RGB) or 4
            (RGB and alpha); uint8 in [0, 255], or floating point in [-1, 1] (alpha in [-1, 1] too).
        name: what errors call it.

    Raises:
        InputError: it has another shape or type, or numbers out of range.
    """
    pixels = given if isinstance(given, Tensor) else _channels_first(given, name)
    pixels = pixels.detach().cpu()
    if pixels.ndim != 3 or pixels.shape[0] not in CHANNELS or pixels.numel() == 0:
        raise InputError(
            f"{name} is an array of shape {tuple(given.shape)}, which is no picture: give {FORMS}."
        )
    if pixels.dtype == torch.uint8:
        unit = pixels.float() / GREY_LEVELS - 1
        alpha = pixels[3].float() / 255 if len(pixels) == 4 else None
    elif pixels.is_floating_point():
        unit = pixels.float()
        if not bool((unit.abs() <= 1).all()):
            raise InputError(
                f"{name} holds numbers from {float(unit.min()):g} to {float(unit.max()):g}, which are no colours: "
                f"give {FORMS}."
            )
        alpha = (unit[3] + 1) / 2 if len(unit) == 4 else None
    else:
        raise InputError(f"{name} is an array of {given.dtype}, which is no picture: give {FORMS}.")
    return LoadedImage(unit[:3] if len(unit) > 1 else unit.expand(3, -1, -1).clone(), alpha)


def _channels_first(array: npt.NDArray[np.generic], name: str) -> Tensor:
    if array.dtype.kind not in "uf" or array.dtype.itemsize > 8:
        raise InputError(f"{name} is an array of {array.dtype}, which is no picture: give {FORMS}.")
    whole = array[..., None] if array.ndim == 2 else array
    if whole.ndim != 3:
        raise InputError(f"{name} is an array of shape {array.shape}, no picture: give {FORMS}.")
    # A copy: what the caller does with the array afterwards is the caller's.
    return torch.from_numpy(np.array(whole.transpose(2, 0, 1)))
