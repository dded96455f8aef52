"""Constraints as projections: l1 balls, one for each image and kind of variable, spheres, and the ball of weights.

On a CPU the l1 projection stops as soon as it can. Elsewhere asking would wait for the device, so that it takes a
fixed number of passes there, which are enough to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ilo_pl.inversion.stage_spec import Sphere, Stage, VariableKind
from ilo_pl.inversion.tuning import project_weights

MAX_PASSES = 100
# Rows of normal, Laplace and Cauchy numbers, sparse and geometric ones need at most 12 at any radius.
FIXED_PASSES = 16
# Entries that are added up in their own precision before double precision takes over.
BLOCK = 1024
# One entry in so many is enough for a first guess; a prime, for the entries are maps with even sides.
STRIDE = 61
WORTH_A_GUESS = 2**14


def spread(per_image: Tensor, like: Tensor) -> Tensor:
    """Return values of shape ``(B,)`` so that they broadcast to a tensor ``(B, ...)``."""
    return per_image.view(-1, *[1] * (like.ndim - 1))


def project(
    spec: Stage, values: Mapping[str, Tensor], centres: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the nearest points that a stage allows its variables, by name; those that stay are left out.

    Args:
        spec: the stage.
        values: its variables, named as by :meth:`~ilo_pl.generators.point.Point.named`.
        centres: the centres of their balls, which is where the stage began.
    """
    kinds: dict[VariableKind, list[str]] = {
        "hidden": [name for name in values if name.startswith("hidden.")],
        "latents": ["latents"],
        "noises": [name for name in values if name.startswith("noises.")],
    }
    projected = {}
    for kind, names in kinds.items():
        if kind != "hidden" and getattr(spec.sphere, kind):
            dims = 1 if kind == "latents" or spec.sphere.radius == "start" else 3
            for name in names:
                projected[name] = _on_sphere(spec.sphere, values[name], centres[name], dims)
        radius = spec.radii.absolute(kind, sum(values[n][0].numel() for n in names))
        if radius is None or not names:
            continue
        points = [values[n] for n in names]
        moved = project_joint_l1_ball(points, [centres[n] for n in names], radius)
        pairs = zip(names, points, moved, strict=True)
        projected |= {name: there for name, here, there in pairs if there is not here}
    weights = {name: value for name, value in values.items() if name.startswith("weights.")}
    return projected | project_weights(spec.tune, weights)


def _on_sphere(spec: Sphere, points: Tensor, start: Tensor, dims: int) -> Tensor:
    if spec.radius == "sqrt_dim":
        return project_sphere(points, dims)
    return project_sphere(points, dims, start.square().mean(-1, keepdim=True))


def project_sphere(points: Tensor, dims: int, mean_square: Tensor | None = None) -> Tensor:
    """Scale vectors to length sqrt(n), where n is the number of scalars of one vector.

    There N(0, 1) lives in many dimensions (PULSE, arXiv 2003.03808, section 3.2).

    Args:
        points: tensor whose last ``dims`` dimensions form one vector.
        dims: 1 for latents ``(B, S, D)``, 3 for noise maps ``(B, 1, h, w)``.
        mean_square: another squared length over n of the result; it broadcasts to the vectors.

    Returns:
        Tensor of the same shape. A zero vector stays zero.
    """
    axes = tuple(range(-dims, 0))
    found = points.square().mean(axes, keepdim=True)
    scaled = points * found.clamp(min=1e-30).rsqrt()
    if mean_square is not None:
        scaled = scaled * mean_square.sqrt()
    return torch.where(found > 0, scaled, points)


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
    if _asks(inside) and bool(inside.all()):
        return list(points)
    joined = magnitudes[0] if len(magnitudes) == 1 else torch.cat(magnitudes, 1)
    t = l1_threshold(joined, torch.full_like(norm, radius)).to(joined.dtype)
    projected = []
    for point, centre, deviation, magnitude in zip(
        points, centres, deviations, magnitudes, strict=True
    ):
        shrunk = magnitude.sub_(t[:, None]).clamp_(min=0).copysign_(deviation)
        moved = shrunk.view_as(centre).add_(centre)
        if len(inside) > 1 or not _asks(inside):
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
        magnitudes: ``(B, N)``, non-negative.
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
    for i in range(MAX_PASSES if _asks(t) else FIXED_PASSES):
        low = t.to(magnitudes.dtype)
        value = row_sums(torch.sub(magnitudes, low[:, None], out=excess).clamp_(min=0))
        count = row_sums(excess.gt_(0))
        divisor = count.clamp(min=1)
        reached = low.to(t.dtype) + (value - radius) / divisor
        reached = torch.where(count > 0, reached, 0).clamp(min=0)
        # Rounding could make the last step go back by an ulp: after the first, iterates only rise.
        t = torch.maximum(reached, t) if i else reached
        if _asks(t) and bool(((t - low).abs() <= rounding * (value / divisor + t)).all()):
            break
    return t


def row_sums(values: Tensor) -> Tensor:
    """Return the sums of the rows of ``(B, N)``, ``(B,)`` in float64, in float32 on Apple's GPUs, which have no other.

    Short blocks are added in the values' own precision, several times faster than all in double;
    their sums, in double, depend neither on the other rows nor on the number of threads.
    """
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = values[:, :whole].view(len(values), -1, BLOCK).sum(2)
    rest = values[:, whole:]
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    return torch.cat([blocks, rest], 1).sum(1, dtype=dtype)


def _asks(tensor: Tensor) -> bool:
    """Return whether asking for a value costs nothing: on a CPU."""
    return tensor.device.type == "cpu"
