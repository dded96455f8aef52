"""Keys' bicubic resampling: the kernel, what lies beyond the border, and anti-aliased reduction as a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BICUBIC_A = -0.5


def keys_cubic(x: Tensor, a: float = BICUBIC_A) -> Tensor:
    """Keys' cubic convolution kernel (Keys 1981, doi:10.1109/TASSP.1981.1163711), zero beyond 2."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def resampling_matrix(size: int, factor: int) -> Tensor:
    """Return the matrix ``(size / factor, size)`` of anti-aliased bicubic down-sampling, float64.

    The kernel is stretched by the factor, so that it averages over what a pixel covers. Beyond the
    border the image is mirrored (the border pixel is not repeated), as PULSE does.
    """
    out = size // factor
    centres = (torch.arange(out, dtype=torch.float64) + 0.5) * factor - 0.5
    # Taps of every output: all inputs within two output pixels.
    first = torch.ceil(centres - 2 * factor).long()
    taps = first[:, None] + torch.arange(4 * factor)
    weights = keys_cubic((taps - centres[:, None]) / factor)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, mirror(taps, size), weights)


def mirror(index: Tensor, size: int) -> Tensor:
    """Reflect indices into [0, size) about the border pixels."""
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.where(index < size, index, period - index)


def whole_factors(sides: Sequence[int]) -> list[int]:
    """Return the factors by which all sides of an image can be divided, from 1 on."""
    return [n for n in range(1, min(sides) + 1) if not any(side % n for side in sides)]
