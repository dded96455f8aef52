"""Affine resampling of images: cubic, anti-aliased when it shrinks, mirrored beyond the border."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.operators.separable import keys_cubic, mirror

Array = npt.NDArray[np.float64]
# Output pixels that are interpolated at a time: sixteen taps of each are gathered.
CHUNK = 1 << 18
TAPS = (-1, 0, 1, 2)
# Pixels added around the result before it is halved: the kernel's reach.
BORDER = 2


def warp(image: Tensor, matrix: Array, height: int, width: int) -> Tensor:
    """Resample an image on an affine grid of points.

    Keys' cubic convolution (1981, doi:10.1109/TASSP.1981.1163711) with a = -0.5, which reproduces polynomials
    up to the second degree. Where the grid is coarser than the pixels, a grid twice as fine is interpolated and
    then halved by the same kernel stretched, so that nothing aliases. What is more than twice as fine as that
    grid is shrunk to it first. The scale is the same in all directions for the similarities of this package.

    Args:
        image: ``(C, H, W)`` float.
        matrix: ``(2, 3)``, from ``(x, y, 1)`` of the result to ``(x, y)`` of the image, both in pixels, with
            whole numbers at the pixels' centres.
        height: height of the result.
        width: width of the result.

    Returns:
        ``(C, height, width)``; cubic interpolation can overshoot the image's range.
    """
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    if scale <= 1:
        return _sample(*_patch(image, matrix, (height, width), margin=3), height, width)
    fine = np.column_stack(
        [matrix[:, :2] / 2, matrix[:, 2] - matrix[:, :2].sum(1) * (BORDER + 0.25)]
    )
    size = (2 * height + 4 * BORDER, 2 * width + 4 * BORDER)
    patch, fine = _patch(image, fine, size, margin=math.ceil(4 * scale) + 3)
    if scale > 2:
        patch, fine = _shrink(patch, fine, scale / 2)
    return _resize(_sample(patch, fine, *size), size[0] // 2, size[1] // 2)[
        :, BORDER:-BORDER, BORDER:-BORDER
    ]


def _patch(
    image: Tensor, matrix: Array, size: tuple[int, int], margin: int
) -> tuple[Tensor, Array]:
    """Cut out what the grid covers, mirrored where it leaves the image; return it with its matrix."""
    height, width = size
    corners = [(x, y, 1) for x in (0, width - 1) for y in (0, height - 1)]
    reached = np.array(corners) @ matrix.T
    first = np.floor(reached.min(0)).astype(int) - margin
    last = np.ceil(reached.max(0)).astype(int) + margin
    columns, rows = (torch.arange(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    patch = image[:, mirror(rows, image.shape[1])][:, :, mirror(columns, image.shape[2])]
    return patch, matrix - np.column_stack([np.zeros((2, 2)), first])


def _shrink(patch: Tensor, matrix: Array, scale: float) -> tuple[Tensor, Array]:
    old = np.array([patch.shape[2], patch.shape[1]])
    new = np.ceil(old / scale).astype(int)
    small = _resize(patch, int(new[1]), int(new[0]))
    ratio = new / old
    shrunk = matrix * ratio[:, None]
    shrunk[:, 2] += 0.5 * ratio - 0.5
    return small, shrunk


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0]


def _sample(patch: Tensor, matrix: Array, height: int, width: int) -> Tensor:
    """Interpolate at points whose sixteen neighbours all lie within the patch."""
    flat = patch.reshape(len(patch), -1)
    linear = torch.from_numpy(matrix)
    out = torch.empty(len(patch), height * width, dtype=patch.dtype)
    for start in range(0, height * width, CHUNK):
        index = torch.arange(start, min(start + CHUNK, height * width))
        grid = torch.stack([index % width, index // width, torch.ones_like(index)]).double()
        x, y = linear @ grid
        column, row = x.floor().long(), y.floor().long()
        total = torch.zeros(len(patch), len(index), dtype=patch.dtype)
        across = [keys_cubic(x - (column + i)) for i in TAPS]
        for j in TAPS:
            down = keys_cubic(y - (row + j))
            for i, weight in zip(TAPS, across, strict=True):
                weights = (down * weight).to(patch.dtype)
                total += weights * flat[:, (row + j) * patch.shape[2] + column + i]
        out[:, start : start + len(index)] = total
    return out.view(-1, height, width)
