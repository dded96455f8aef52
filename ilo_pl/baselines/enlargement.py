"""Small pictures enlarged by a fixed kernel, as every picture viewer does."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo_pl.errors import InputError

Kernel = Literal["bicubic", "lanczos"]
KERNELS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def enlarge(small: Tensor, size: tuple[int, int], kernel: Kernel) -> Tensor:
    """Enlarge a picture with Pillow, channel by channel in 32-bit floating point.

    Args:
        small: ``(C, h, w)``, in [-1, 1] where there is no noise.
        size: height and width of the result, in pixels.
        kernel: Keys' cubic with a = -0.5, or Lanczos with three lobes.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        InputError: what is measured is no picture.
    """
    if small.ndim != 3:
        raise InputError(f"Only pictures can be enlarged; got measurements {tuple(small.shape)}.")
    height, width = size
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), KERNELS[kernel]))
        for plane in small.float().cpu().numpy()
    ]
    return torch.from_numpy(np.stack(planes)).clamp(-1, 1)
