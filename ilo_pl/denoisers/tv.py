"""Total variation denoising (Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ilo_pl.denoisers.base import Denoiser

# Of the dual problem's projected gradient; its Lipschitz constant is 8.
ITERATIONS = 60
STEP = 1 / 8


def gradient(x: Tensor) -> Tensor:
    """Return forward differences ``(B, 2, C, H, W)`` down and to the right, 0 at the last row and column."""
    down = torch.zeros_like(x)
    right = torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right], 1)


def divergence(field: Tensor) -> Tensor:
    """Return minus the adjoint of :func:`gradient`."""
    down, right = field[:, 0].clone(), field[:, 1].clone()
    down[..., 1:, :] -= field[:, 0, ..., :-1, :]
    down[..., -1, :] = -field[:, 0, ..., -2, :]
    right[..., 1:] -= field[:, 1, ..., :-1]
    right[..., -1] = -field[:, 1, ..., -2]
    return down + right


@torch.no_grad()
def total_variation(images: Tensor, weight: Tensor) -> Tensor:
    """Return argmin over x of ||x - images||^2 / 2 + weight TV(x), isotropic over space, channels together.

    Accelerated projected gradient on the dual (Beck and Teboulle 2009, doi:10.1109/TIP.2009.2028250).

    Args:
        images: ``(B, C, H, W)``.
        weight: one for each image, ``(B,)``.
    """
    weight = weight.view(-1, 1, 1, 1)
    dual = torch.zeros_like(gradient(images))
    ahead, momentum = dual, 1.0
    for _ in range(ITERATIONS):
        moved = ahead + STEP * gradient(divergence(ahead) + images / weight)
        found = moved / moved.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = found + (momentum - 1) / faster * (found - dual)
        dual, momentum = found, faster
    return images + weight * divergence(dual)


@final
class TotalVariation(Denoiser):
    """The weight is the standard deviation of the noise."""

    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Denoise pictures."""
        return total_variation(images, sigma)
