"""Projection onto the sphere that high-dimensional normal vectors live on (PULSE, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


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
