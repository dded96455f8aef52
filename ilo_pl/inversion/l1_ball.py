"""Projection onto l1 balls, one for each image.

On a CPU it stops as soon as it can. Elsewhere asking would wait for the device: there a sort of the largest entries, and
of some of the others, leaves so little to do that a fixed number of passes is enough to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.inversion.packing import asking_is_free, pack, row_sums, spread, unpacked, wide

MAX_PASSES = 100
# One entry in so many is enough for a first guess; a prime, for the entries are maps with even sides.
STRIDE = 61
WORTH_A_GUESS = 2**14
# So many entries are sorted where asking is not free; a row of no more needs no pass behind it.
SORTED = 2**16
# Rows of normal and Laplace numbers need one or two after such a sort; rows of heavy tails, or all but empty ones, three.
# The norm is held in any case.
FIXED_PASSES = 3
TILE = 256
# A norm of nothing.
TINY = 1e-30


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
    if not asking_is_free(points[0]):
        rows = _joined(points)
        project_in_place(rows, _joined(centres), radius)
        return unpacked(rows, points)
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


def l1_threshold(magnitudes: Tensor, radius: Tensor) -> Tensor:
    """Solve sum(max(magnitudes - t, 0)) = radius for t >= 0, to rounding, for every row.

    Duchi et al. 2008 (ICML, figure 1) find t by sorting. The left side is convex and piecewise linear
    in t, so Newton's method climbs to the same t without a sort and ends after finitely many steps,
    when the set of entries above t no longer changes (Michelot 1986; Condat 2016,
    doi:10.1007/s10107-015-0946-6). For long rows it starts from the t of one entry in 61.

    Args:
        magnitudes: ``(B, N)``, non-negative, on a CPU.
        radius: ``(B,)`` in the precision of :func:`row_sums`, non-negative.

    Returns:
        ``(B,)`` in the same precision; 0 for rows that are inside already.
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
    for i in range(MAX_PASSES):
        low = t.to(magnitudes.dtype)
        value = row_sums(torch.sub(magnitudes, low[:, None], out=excess).clamp_(min=0))
        count = row_sums(excess.gt_(0))
        divisor = count.clamp(min=1)
        reached = low.to(t.dtype) + (value - radius) / divisor
        reached = torch.where(count > 0, reached, 0).clamp(min=0)
        # Rounding could make the last step go back by an ulp: after the first, iterates only rise.
        t = torch.maximum(reached, t) if i else reached
        if bool(((t - low).abs() <= rounding * (value / divisor + t)).all()):
            break
    return t


# ---- where asking is not free --------------------------------------------------------------------


@torch.no_grad()
def project_in_place(points: Tensor, centres: Tensor, radius: float) -> None:
    """Project rows as :func:`project_l1_ball` does, in few kernels and without waiting for any.

    Args:
        points: ``(B, N)``, changed in place.
        centres: ``(B, N)``.
        radius: l1 radius.
    """
    deviations = points - centres
    magnitudes = deviations.abs()
    long = magnitudes.shape[1] > SORTED
    t = _sampled_threshold(magnitudes, radius) if long else _threshold(magnitudes, radius)
    for _ in range(FIXED_PASSES if long else 0):
        excess = (magnitudes - t).clamp_(min=0)
        count = torch.linalg.vector_norm(excess, 0, 1, keepdim=True).clamp_(min=1)
        t.addcdiv_(excess.sum(1, keepdim=True).sub_(radius), count)
    shrunk = deviations - deviations.clamp(-t, t)
    if long:
        # Newton's iterates stay below the solution, so that what is left of the norm is too much, if anything.
        left = torch.linalg.vector_norm(shrunk, 1, 1, keepdim=True, dtype=wide(shrunk))
        times = torch.div(left.clamp_(min=max(radius, TINY)), radius, out=torch.empty_like(t))
        moved = torch.addcdiv(centres, shrunk, times)
    else:
        moved = shrunk.add_(centres)
    torch.where(t > 0, moved, points, out=points)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return a copy of tensors side by side."""
    return tensors[0].flatten(1).clone() if len(tensors) == 1 else pack(tensors)


def _threshold(magnitudes: Tensor, radius: float) -> Tensor:
    """Return max over j of (u_1 + ... + u_j - radius) / j, u sorted: Duchi et al.'s t, or below 0 inside; ``(B, 1)``."""
    ordered = magnitudes.sort(1, descending=True).values.to(wide(magnitudes))
    sums = _prefix_sums(ordered)
    return _highest(sums, _counts(sums.shape[1], sums.dtype, sums.device), radius, magnitudes)


def _sampled_threshold(magnitudes: Tensor, radius: float) -> Tensor:
    """Return about what :func:`_threshold` does, from the largest entry of every block and one of its others.

    The largest count for themselves, so that no entry is missed that is much of the norm by itself; the one of the
    others counts for all of them.
    """
    size = magnitudes.shape[1]
    # A power of two, which divides what maps have; no more than SORTED entries remain.
    width = 2 ** math.ceil(math.log2(2 * size / SORTED))
    if size % width:
        magnitudes = F.pad(magnitudes, (0, -size % width))
    # Blocks are of entries that lie far apart, for what is large lies together.
    largest = magnitudes.view(len(magnitudes), width, -1).amax(1)
    first, second = magnitudes[:, _places(largest.shape[1], width, magnitudes.device)].chunk(2, 1)
    other = torch.where(first == largest, second, first)
    found = torch.cat([largest, other], 1).sort(1, descending=True)
    dtype, device = wide(magnitudes), magnitudes.device
    weights = _weights(largest.shape[1], width, dtype, device)[found.indices]
    weighted = torch.stack([found.values * weights, weights])
    sums, counts = _prefix_sums(weighted.flatten(0, 1)).chunk(2)
    return _highest(sums, counts, radius, magnitudes)


def _highest(sums: Tensor, counts: Tensor, radius: float, like: Tensor) -> Tensor:
    """Return max over j of (sums_j - radius) / counts_j, ``(B, 1)`` in the precision of another tensor."""
    thresholds = torch.empty(sums.shape, dtype=like.dtype, device=like.device)
    return torch.div(sums.sub_(radius), counts, out=thresholds).amax(1, keepdim=True)


def _prefix_sums(rows: Tensor) -> Tensor:
    """Return the sums of the first 1, 2, ... entries of rows ``(R, N)``; N is filled up to whole tiles.

    As matrix products: cumsum has no deterministic form on CUDA.
    """
    size = rows.shape[1]
    tile = math.gcd(size, TILE)
    if tile < min(size, 16):
        rows, tile = F.pad(rows, (0, -size % TILE)), TILE
    tiles = rows.view(len(rows), -1, tile)
    within = tiles @ _upper(tile, 0, tiles.dtype, tiles.device)
    before = within[:, :, -1] @ _upper(tiles.shape[1], 1, tiles.dtype, tiles.device)
    return within.add_(before[:, :, None]).flatten(1)


@lru_cache(maxsize=16)
def _upper(size: int, diagonal: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the triangular matrix whose product with a row is the row's prefix sums."""
    return torch.ones(size, size, dtype=dtype, device=device).triu(diagonal)


@lru_cache(maxsize=16)
def _counts(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _places(blocks: int, width: int, device: torch.device) -> Tensor:
    """Return where two entries of every block are, of all parts of the row alike: a fixed draw."""
    order = torch.Generator().manual_seed(0)
    rows = torch.randint(width, (blocks,), generator=order)
    places = torch.stack([rows, (rows + 1) % width]) * blocks + torch.arange(blocks)
    return places.flatten().to(device)


@lru_cache(maxsize=16)
def _weights(blocks: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return how many entries each of those stands for that are sorted."""
    one = torch.ones(blocks, dtype=dtype, device=device)
    return torch.cat([one, one * (width - 1)])
