"""Linear systems of forward operators: A* (A A* + rho I)^-1, in closed form where there is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each image's numbers, shaped to scale them: ``(B, 1, ...)``."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))


@torch.no_grad()
def conjugate_gradients(system: Apply, right: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Solve S u = r for each image of a batch, S symmetric and positive semidefinite (Hestenes and Stiefel 1952).

    Every image has steps of its own and stops by itself, so that its solution does not depend on its neighbours.

    Args:
        system: applies S to ``(B, ...)``.
        right: r, ``(B, ...)``; in the range of S where S is singular.
        iterations: at most so many.
        tolerance: an image is done when its residual is this share of r in the l2 norm.
    """
    solution = torch.zeros_like(right)
    residual, direction = right.clone(), right.clone()
    squared = inner(residual, residual)
    goal = squared * tolerance**2
    for _ in range(iterations):
        going = squared > goal
        # Elsewhere than on a CPU asking would wait for the device.
        if going.device.type == "cpu" and not bool(going.any()):
            break
        image = system(direction)
        curvature = inner(direction, image)
        step = torch.where(going & (curvature > 0), squared / curvature.clamp(min=1e-30), 0.0)
        solution = solution + step * direction
        residual = residual - step * image
        before, squared = squared, inner(residual, residual)
        direction = (
            residual + torch.where(going, squared / before.clamp(min=1e-30), 0.0) * direction
        )
        squared = torch.where(going, squared, before)
    return solution
