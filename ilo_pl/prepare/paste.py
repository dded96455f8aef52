"""Put the restored square back into the photo it was cut from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.io.images import to_bytes
from ilo_pl.prepare.alignment import square_to_photo
from ilo_pl.prepare.warp import Array, warp


def edge_weights(x: Tensor, y: Tensor, feather: float) -> Tensor:
    """Weigh points of the unit square: 0 outside and at its edge, 1 from ``feather`` inwards, smooth between.

    Args:
        x: horizontal coordinates, in [0, 1] inside the square.
        y: vertical coordinates of the same shape.
        feather: width of the soft edge as a share of the side; 0 for a hard one.
    """
    inside = torch.minimum(torch.minimum(x, 1 - x), torch.minimum(y, 1 - y))
    if feather == 0:
        return (inside > 0).to(x.dtype)
    t = (inside / feather).clamp(0, 1)
    return t * t * (3 - 2 * t)


def hole_weights(observed: Tensor, feather: float) -> Tensor:
    """Weigh the pixels of a square by a mask: 1 where it misses, falling to 0 within ``feather`` around.

    Args:
        observed: ``(S, S)`` bool, true where the mask observes.
        feather: width of the soft edge as a share of the side.
    """
    reach = round(feather * observed.shape[-1] / 2)
    width = 2 * reach + 1
    holes = F.pad((~observed)[None].float(), (reach, reach, reach, reach), mode="replicate")
    # Dilated by the reach, then averaged over it: no pixel of the hole itself loses weight.
    for kernel in ((width, 1), (1, width)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        holes = F.max_pool2d(holes, kernel, stride=1, padding=padding)
    for kernel in ((width, 1), (1, width)):
        holes = F.avg_pool2d(holes, kernel, stride=1)
    return holes[0]


def paste(
    photo: Tensor,
    restored: Tensor,
    square: Array,
    feather: float,
    observed: Tensor | None = None,
) -> Tensor:
    """Warp a restored square into the photo and blend it over its edge.

    Args:
        photo: ``(3, H, W)`` uint8.
        restored: ``(3, S, S)`` float in [-1, 1], the aligned image after restoration.
        square: corners ``(4, 2)`` of the square in the photo.
        feather: width of the soft edge as a share of the side, in [0, 0.5].
        observed: ``(S, S)`` bool, the mask of the restoration: only what it misses is pasted, with a soft edge
            around. ``None`` pastes the whole square.

    Returns:
        ``(3, H, W)`` uint8; every pixel outside the square (or the mask's surroundings) is the photo's own.
    """
    size, (height, width) = restored.shape[-1], photo.shape[1:]
    first = np.clip(np.floor(square.min(0)).astype(int), 0, [width, height])
    last = np.clip(np.ceil(square.max(0)).astype(int) + 1, 0, [width, height])
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    if right <= left or bottom <= top:
        return photo.clone()
    to_square = np.linalg.inv(np.vstack([square_to_photo(square, size), [0, 0, 1]]))[:2]
    to_square[:, 2] += to_square[:, :2] @ first
    layers = restored
    if observed is not None:
        layers = torch.cat([restored, hole_weights(observed, feather)[None]])
    warped = warp(layers, to_square, bottom - top, right - left)
    weights = edge_weights(*_unit_square(to_square, warped, size), feather).float()
    if observed is not None:
        weights *= warped[3].clamp(0, 1)
    result = photo.clone()
    region = photo[:, top:bottom, left:right]
    blended = torch.lerp(region.float() / 127.5 - 1, warped[:3].clamp(-1, 1), weights)
    result[:, top:bottom, left:right] = torch.where(weights > 0, to_bytes(blended), region)
    return result


def _unit_square(to_square: Array, region: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return where the pixels of a region ``(C, H, W)`` lie in the unit square, ``(H, W)`` each."""
    height, width = region.shape[1:]
    rows, columns = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    x, y = ((r[0] * columns + r[1] * rows + r[2] + 0.5) / size for r in torch.from_numpy(to_square))
    return x, y
