"""Total variation (Rudin, Osher and Fatemi 1992): ``min 1/2 ||A x - y||^2 + lambda TV(x)``."""

from __future__ import annotations

import torch
from torch import Tensor

from ilo_pl.baselines.packages import imported
from ilo_pl.baselines.proximal import (
    MARGIN,
    fista,
    last_weight,
    noise_gain,
    squared_norm,
    strengths,
)
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.operators import Identity, LinearOperator

# lambda / L of the first iteration, in units of an image.
FIRST = 0.3
# Chambolle's steps in each iteration of FISTA, without noise and with it, where lambda stays large and each of
# them moves little by little; and where they may end before the limit.
INNER_STEPS, NOISY_STEPS = 10, 40
PRECISION = 1e-7


def tv(
    operator: LinearOperator,
    measurements: Tensor,
    sigma: float,
    *,
    iterations: int = 200,
    weight: float = 1.0,
) -> Tensor:
    """Restore an image of little isotropic total variation, each channel by itself.

    Noise on the image itself is taken off by :func:`skimage.restoration.denoise_tv_chambolle` with weight
    ``weight sigma`` and its own stopping rule; any other A by FISTA, 10 of its steps in each iteration, 40 where there is noise. lambda
    falls from 0.3 L to ``weight sigma ||A||_F / sqrt(n)``, the noise in each pixel of ``A* y``, or to
    ``||A||_F^2 / (1000 n)`` where there is none.

    Args:
        operator: A, of one image; L is the largest eigenvalue of A* A.
        measurements: y, ``(*operator.measurement_shape)``.
        sigma: their noise's standard deviation in 8-bit grey levels.
        iterations: how many, at least one; not used where the image itself is measured.
        weight: the last lambda in units of the noise.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: scikit-image is not installed.
    """
    chambolle = imported("skimage.restoration").denoise_tv_chambolle
    noise = weight * sigma / GREY_LEVELS
    if isinstance(operator, Identity):
        if not noise:
            return measurements.float().clamp(-1, 1)
        clean = chambolle(measurements.cpu().numpy(), noise, channel_axis=0)
        return torch.from_numpy(clean).clamp(-1, 1).float()

    steps = NOISY_STEPS if noise else INNER_STEPS

    def prox(image: Tensor, strength: float) -> Tensor:
        found = chambolle(
            image.cpu().numpy(), strength, eps=PRECISION, max_num_iter=steps, channel_axis=0
        )
        return torch.from_numpy(found)

    lipschitz = MARGIN * squared_norm(operator)
    last = last_weight(noise_gain(operator), noise) / lipschitz
    falling = strengths(FIRST, last, iterations)
    return fista(operator, measurements, prox, falling, lipschitz).clamp(-1, 1)
