"""Measured consistency: what is returned, measured again, gives what was measured (docs/methods.md)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.operators.base import ForwardOperator, LinearOperator
from ilo_pl.operators.correction import conjugate_gradients
from ilo_pl.operators.mask import Mask

# Clipping to [-1, 1] and projecting take turns: each undoes a little of the other.
TURNS = 8
# How far into a hole its rim's colours reach, as a share of the image's longer side.
REACH = 1 / 16
ITERATIONS = 400
# Of an image whose misfit the noise explains.
LEAST_ERROR = 1e-4
TOLERANCE = 1e-3


def measured_error(operator: ForwardOperator, measurements: Tensor, images: Tensor) -> Tensor:
    """Return the RMS of A x - y over what is measured, in 8-bit grey levels, for each image ``(B,)``."""
    error = operator.hide(operator(images) - measurements).square().flatten(1).sum(1)
    return (error / operator.observed().to(error)).sqrt() * GREY_LEVELS


@torch.no_grad()
def consistent(
    operator: LinearOperator, measurements: Tensor, images: Tensor, noise: float = 0.0
) -> Tensor:
    """Return images near the given ones, in [-1, 1], whose measurements are y: x + A* (A A*)^-1 (y - A x).

    The range-null decomposition (Wang et al. 2022, arXiv 2212.00490). What is missing under a mask takes over the
    colours of its rim, so that no seam is seen. With noise they are moved as far as it does not explain the
    difference: x + A* (A A* + (noise / error)^2 I)^-1 (y - A x), the error of x found by the discrepancy principle.

    Args:
        operator: A.
        measurements: y, ``(B, ...)``.
        images: ``(B, 3, H, W)``.
        noise: standard deviation of the noise in y, in its units.
    """
    if noise:
        residual = measurements - operator(images)
        error = error_level(operator, residual, noise).clamp(min=LEAST_ERROR)
        rho = (noise / error).square().view(-1, *[1] * (residual.ndim - 1))
        return (images + operator.correction(residual, rho)).clamp(-1, 1)
    if isinstance(operator, Mask):
        images = images + blended(operator.mask, measurements - operator(images))
    for _ in range(TURNS):
        images = images + operator.correction(measurements - operator(images))
        images = images.clamp(-1, 1)
    return images


def error_level(
    operator: LinearOperator, residual: Tensor, noise: float, seen: Tensor | None = None
) -> Tensor:
    """Return the standard deviation of the errors of images, ``(B,)``, as far as their measurements tell it.

    White errors e of that size have E ||A e||^2 = level^2 ||A||_F^2, on top of the noise.

    Args:
        operator: A.
        residual: y - A x, ``(B, ...)``.
        noise: standard deviation of the noise in y.
        seen: which measurements tell it, like ``residual``; all of them by default.
    """
    seen = torch.ones_like(residual) if seen is None else seen.to(residual)
    drawn = torch.randn(residual.shape[1:], generator=torch.Generator().manual_seed(0))
    probe = operator.hide(drawn.to(residual) * seen)
    gain = operator.adjoint(probe).square().flatten(1).sum(1)
    count = operator.hide(seen).flatten(1).sum(1)
    squared = operator.hide(residual * seen).square().flatten(1).sum(1) - count * noise**2
    return (squared / gain).clamp(min=0).sqrt()


def blended(mask: Tensor, residual: Tensor, reach: float = REACH) -> Tensor:
    """Continue a residual into what a mask hides: there (laplacian - 1 / reach^2) d = 0, elsewhere d is the residual.

    The membrane of Perez et al. (2003, doi:10.1145/882262.882269), screened so that a wrong rim does not
    colour the middle of a large hole.

    Args:
        mask: ``(1 or B, 1, H, W)``, 1 where the residual is known.
        residual: ``(B, C, H, W)``.
        reach: as a share of the longer side.
    """
    screen = 1 / (reach * max(residual.shape[-2:])) ** 2
    hole = 1 - mask

    def system(d: Tensor) -> Tensor:
        return hole * (screen * d - _laplacian(hole * d))

    right = hole * _laplacian(mask * residual)
    return mask * residual + hole * conjugate_gradients(system, right, ITERATIONS, TOLERANCE)


def _laplacian(x: Tensor) -> Tensor:
    """Return the five-point Laplacian with mirrored borders."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    sides = p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
    return sides - 4 * x
