"""Exact Euclidean projection onto l1 balls, one ball per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_ITERATIONS = 100


def l1_threshold(magnitudes: Tensor, radius: Tensor) -> Tensor:
    """Solve sum(max(magnitudes - t, 0)) = radius for t >= 0, exactly, for every row.

    Duchi et al. 2008 (ICML, figure 1) find t by sorting. The left side is convex and piecewise linear
    in t, so Newton's method from t = 0 climbs to the same t without a sort and ends after finitely
    many steps, when the set of entries above t no longer changes (Michelot 1986; Condat 2016,
    doi:10.1007/s10107-015-0946-6). Sums are taken in float64.

    Args:
        magnitudes: ``(B, N)``, non-negative.
        radius: ``(B,)``, non-negative.

    Returns:
        ``(B,)`` in float64; 0 for rows that are inside already.
    """
    t = magnitudes.new_zeros(magnitudes.shape[0], dtype=torch.float64)
    radius = radius.double()
    previous = torch.full_like(t, -1.0)
    for _ in range(MAX_ITERATIONS):
        above = magnitudes > t[:, None]
        count = above.sum(1)
        total = torch.where(above, magnitudes, 0).sum(1, dtype=torch.float64)
        step = (total - radius) / count.clamp(min=1)
        # Rounding could make the last step go back by an ulp: Newton's iterates only ever rise.
        t = torch.where(count > 0, torch.maximum(step, t), t)
        if torch.equal(count, previous):
            break
        previous = count
    return t


def project_l1_ball(points: Tensor, centres: Tensor, radius: float) -> Tensor:
    """Project each row of ``points`` onto the l1 ball of ``radius`` around its row of ``centres``.

    Args:
        points: ``(B, N)``, float32 or float64.
        centres: ``(B, N)``.
        radius: l1 radius, the same for every image.

    Returns:
        ``(B, N)``: the nearest points of the balls. Rows inside stay untouched, bit for bit.
    """
    return project_joint_l1_ball([points], [centres], radius)[0]


def project_joint_l1_ball(
    points: Sequence[Tensor], centres: Sequence[Tensor], radius: float
) -> list[Tensor]:
    """Project several tensors of an image jointly onto one l1 ball.

    Args:
        points: tensors ``(B, ...)`` that together are one point of each image.
        centres: tensors of the same shapes.
        radius: bound of the l1 norm of all deviations of an image together.

    Returns:
        The projected tensors. Images inside stay untouched, bit for bit.
    """
    deviations = [(p - c).flatten(1) for p, c in zip(points, centres, strict=True)]
    magnitudes = [d.abs() for d in deviations]
    norm = sum(m.sum(1, dtype=torch.float64) for m in magnitudes)
    assert isinstance(norm, Tensor)
    inside = norm <= radius
    if bool(inside.all()):
        return list(points)
    joined = magnitudes[0] if len(magnitudes) == 1 else torch.cat(magnitudes, 1)
    t = l1_threshold(joined, torch.full_like(norm, radius)).to(joined.dtype)
    projected = []
    for point, centre, deviation, magnitude in zip(
        points, centres, deviations, magnitudes, strict=True
    ):
        shrunk = deviation.sign() * (magnitude - t[:, None]).clamp(min=0)
        moved = centre + shrunk.view_as(centre)
        keep = inside.view(-1, *[1] * (point.ndim - 1))
        projected.append(torch.where(keep, point, moved))
    return projected
