"""Constraints as projections: l1 balls, one for each image and kind of variable, spheres, and the ball of weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

from ilo_pl.inversion.l1_ball import project_in_place, project_joint_l1_ball
from ilo_pl.inversion.stage_spec import Sphere, Stage, VariableKind
from ilo_pl.inversion.tuning import project_weights


def project(
    spec: Stage,
    values: Mapping[str, Tensor],
    centres: Mapping[str, Tensor],
    *,
    balls: bool = True,
) -> dict[str, Tensor]:
    """Return the nearest points that a stage allows its variables, by name; those that stay are left out.

    Args:
        spec: the stage.
        values: its variables, named as by :meth:`~ilo_pl.generators.point.Point.named`.
        centres: the centres of their balls, which is where the stage began.
        balls: whether l1 balls count.
    """
    projected = {}
    for kind, names in _kinds(values).items():
        if kind != "hidden" and getattr(spec.sphere, kind):
            dims = 1 if kind == "latents" or spec.sphere.radius == "start" else 3
            for name in names:
                projected[name] = _on_sphere(spec.sphere, values[name], centres[name], dims)
        radius = spec.radii.absolute(kind, sum(values[n][0].numel() for n in names))
        if radius is None or not names or not balls:
            continue
        points = [values[n] for n in names]
        moved = project_joint_l1_ball(points, [centres[n] for n in names], radius)
        pairs = zip(names, points, moved, strict=True)
        projected |= {name: there for name, here, there in pairs if there is not here}
    weights = {name: value for name, value in values.items() if name.startswith("weights.")}
    return projected | project_weights(spec.tune, weights)


def project_rows(spec: Stage, rows: Tensor, values: Mapping[str, Tensor], centres: Tensor) -> None:
    """Project all variables of an image in one row onto the l1 balls of a stage, in place.

    Args:
        spec: the stage.
        rows: the variables, packed ``(B, N)`` in the order of ``values``.
        values: tensors of their names and shapes.
        centres: the centres of their balls, packed as they are.
    """
    widths = [value[0].numel() for value in values.values()]
    first = dict(zip(values, accumulate([0, *widths]), strict=False))
    for kind, names in _kinds(values).items():
        size = sum(values[n][0].numel() for n in names)
        radius = spec.radii.absolute(kind, size)
        if radius is not None and names:
            here = slice(first[names[0]], first[names[0]] + size)
            project_in_place(rows[:, here], centres[:, here], radius)


def _kinds(values: Mapping[str, Tensor]) -> dict[VariableKind, list[str]]:
    """Return the names of the variables of each kind, which follow each other."""
    return {
        "hidden": [name for name in values if name.startswith("hidden.")],
        "latents": [name for name in values if name == "latents"],
        "noises": [name for name in values if name.startswith("noises.")],
    }


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
