"""Exact Euclidean projection onto l1 balls, one ball per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_ITERATIONS = 100
# Entries that are added up in their own precision before double precision takes over.
BLOCK = 1024
# One entry in so many is enough for a first guess; a prime, for the entries are maps with even sides.
STRIDE = 61
WORTH_A_GUESS = 2**14


def row_sums(values: Tensor) -> Tensor:
    """Return the sums of the rows of ``(B, N)``, ``(B,)`` in float64.

    Short blocks are added in the values' own precision, several times faster than all in double;
    their sums, in double, depend neither on the other rows nor on the number of threads.
    """
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = values[:, :whole].view(len(values), -1, BLOCK).sum(2)
    rest = values[:, whole:]
    return torch.cat([blocks, rest], 1).sum(1, dtype=torch.float64)


def l1_threshold(magnitudes: Tensor, radius: Tensor) -> Tensor:
    """Solve sum(max(magnitudes - t, 0)) = radius for t >= 0, to rounding, for every row.

    Duchi et al. 2008 (ICML, figure 1) find t by sorting. The left side is convex and piecewise linear
    in t, so Newton's method climbs to the same t without a sort and ends after finitely many steps,
    when the set of entries above t no longer changes (Michelot 1986; Condat 2016,
    doi:10.1007/s10107-015-0946-6). For long rows it starts from the t of one entry in 61.

    Args:
        magnitudes: ``(B, N)``, non-negative.
        radius: ``(B,)`` in float64, non-negative.

    Returns:
        ``(B,)`` in float64; 0 for rows that are inside already.
    """
    size = magnitudes.shape[1]
    t = torch.zeros_like(radius)
    if size >= WORTH_A_GUESS:
        sample = magnitudes[:, ::STRIDE].contiguous()
        t = _climb(sample, radius * (sample.shape[1] / size), t)
    return _climb(magnitudes, radius, t)


def _climb(magnitudes: Tensor, radius: Tensor, t: Tensor) -> Tensor:
    """Run Newton's method from any t; its first step may go back, for a tangent is below the curve."""
    excess = torch.empty_like(magnitudes)
    rounding = torch.finfo(magnitudes.dtype).eps
    for i in range(MAX_ITERATIONS):
        low = t.to(magnitudes.dtype)
        value = row_sums(torch.sub(magnitudes, low[:, None], out=excess).clamp_(min=0))
        count = row_sums(excess.gt_(0))
        divisor = count.clamp(min=1)
        reached = low.double() + (value - radius) / divisor
        reached = torch.where(count > 0, reached, 0).clamp(min=0)
        # Rounding could make the last step go back by an ulp: after the first, iterates only rise.
        t = torch.maximum(reached, t) if i else reached
        if bool(((t - low).abs() <= rounding * (value / divisor + t)).all()):
            break
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
    norm = torch.stack([row_sums(m) for m in magnitudes]).sum(0)
    inside = norm <= radius
    if bool(inside.all()):
        return list(points)
    joined = magnitudes[0] if len(magnitudes) == 1 else torch.cat(magnitudes, 1)
    t = l1_threshold(joined, torch.full_like(norm, radius)).to(joined.dtype)
    projected = []
    for point, centre, deviation, magnitude in zip(
        points, centres, deviations, magnitudes, strict=True
    ):
        shrunk = magnitude.sub_(t[:, None]).clamp_(min=0).copysign_(deviation)
        moved = shrunk.view_as(centre).add_(centre)
        if len(inside) > 1:
            moved = torch.where(spread(inside, point), point, moved)
        projected.append(moved)
    return projected


def project_sphere(points: Tensor, dims: int) -> Tensor:
    """Scale vectors to length sqrt(n), where n is the number of scalars of one vector.

    Args:
        points: tensor whose last ``dims`` dimensions form one vector.
        dims: 1 for latents ``(B, S, D)``, 3 for noise maps ``(B, 1, h, w)``.

    Returns:
        Tensor of the same shape. A zero vector stays zero.
    """
    axes = tuple(range(-dims, 0))
    mean_square = points.square().mean(axes, keepdim=True)
    return torch.where(mean_square > 0, points * mean_square.clamp(min=1e-30).rsqrt(), points)


def spread(per_image: Tensor, like: Tensor) -> Tensor:
    """Return values of shape ``(B,)`` so that they broadcast to a tensor ``(B, ...)``."""
    return per_image.view(-1, *[1] * (like.ndim - 1))
