"""Linear inverse problems with a prior by its proximal operator: FISTA (Beck and Teboulle 2009, doi 10.1137/080716542)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ilo_pl.operators import LinearOperator

# Takes an image (C, H, W) and a strength.
Prox = Callable[[Tensor, float], Tensor]
POWER_STEPS = 30
# A power iteration comes to the norm from below.
MARGIN = 1.02
# Of an image, where there is no noise.
NEARLY_NOTHING = 0.001


def squared_norm(operator: LinearOperator) -> float:
    """Return the largest eigenvalue of A* A, from below, by 30 steps of the power method from fixed noise.

    Args:
        operator: A, of one image.
    """
    x = torch.randn(1, *operator.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in range(POWER_STEPS):
            x = operator.adjoint(operator.measure(x / x.norm()))
    return float(x.norm())


def noise_gain(operator: LinearOperator) -> float:
    """Return by what measurement noise of deviation 1 is scaled on its way into A* y: ``||A||_F / sqrt(n)``.

    It is estimated with one vector of random signs; n is the number of scalars of an image.

    Args:
        operator: A, of one image.
    """
    draw = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (1, *operator.measurement_shape), generator=draw).float() * 2 - 1
    with torch.no_grad():
        return float(operator.adjoint(operator.hide(signs)).square().mean().sqrt())


def last_weight(gain: float, noise: float) -> float:
    """Return what lambda falls to: the noise in A* y, or nearly nothing in the scale of A* A where there is none.

    Args:
        gain: see :func:`noise_gain`.
        noise: the standard deviation of the measurements' noise.
    """
    return noise * gain if noise else NEARLY_NOTHING * gain**2


def strengths(first: float, last: float, count: int) -> list[float]:
    """Return what the prior weighs in each iteration: falling by a constant factor, then ``last``.

    A weight above the last one soon gets near the solution and carries far into what is not measured.

    Args:
        first: where it begins, in units of an image.
        last: where it ends, for the last quarter of the iterations.
        count: how many iterations.
    """
    falling = np.geomspace(max(first, last), last, max(1, count - count // 4))
    return [*map(float, falling), *[last] * (count - len(falling))]


def fista(
    operator: LinearOperator,
    measurements: Tensor,
    prox: Prox,
    weights: Sequence[float],
    lipschitz: float,
    averaged: int = 1,
) -> Tensor:
    """Minimise ``1/2 ||A x - y||^2 + lambda R(x)`` from ``A* y / L`` on, lambda falling.

    Args:
        operator: A, of one image.
        measurements: y, ``(*operator.measurement_shape)``.
        prox: the proximal operator of R: of ``(C, H, W)`` and a strength.
        weights: lambda / L in each iteration.
        lipschitz: L, no less than the largest eigenvalue of A* A.
        averaged: of how many last iterates the mean is taken, where the prior changes from one to the next.

    Returns:
        ``(C, H, W)``, not clipped.
    """
    result = torch.zeros(operator.image_shape)
    with torch.no_grad():
        y = measurements[None].float()
        x = ahead = operator.adjoint(y) / lipschitz
        momentum = 1.0
        for number, weight in enumerate(weights):
            gradient = operator.adjoint(operator.measure(ahead) - y)
            stepped = prox((ahead - gradient / lipschitz)[0], weight)[None]
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = stepped + (momentum - 1) / following * (stepped - x)
            x, momentum = stepped, following
            if number >= len(weights) - averaged:
                result += x[0] / averaged
    return result
