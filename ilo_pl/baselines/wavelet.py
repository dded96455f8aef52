"""Sparsity in a wavelet basis: ``min 1/2 ||A x - y||^2 + lambda ||W x||_1``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilo_pl.baselines.packages import imported
from ilo_pl.baselines.proximal import (
    MARGIN,
    Prox,
    fista,
    last_weight,
    noise_gain,
    squared_norm,
    strengths,
)
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.operators import LinearOperator

WAVELET = "db4"
MOST_LEVELS = 5
# lambda / L of the first iteration, in units of an image.
FIRST = 0.5


def wavelet(
    operator: LinearOperator,
    measurements: Tensor,
    sigma: float,
    *,
    iterations: int = 200,
    weight: float = 1.0,
    spin: bool = True,
) -> Tensor:
    """Restore an image that is sparse in Daubechies' wavelets of four moments, by FISTA.

    W is orthogonal: periodic, each channel by itself, up to five levels; the coarsest averages are not
    penalised. lambda falls from L / 2 to ``weight sigma ||A||_F / sqrt(n)``, the noise in each coefficient of
    ``A* y``, or to ``||A||_F^2 / (1000 n)`` where there is none.

    Args:
        operator: A, of one image; L is the largest eigenvalue of A* A.
        measurements: y, ``(*operator.measurement_shape)``.
        sigma: their noise's standard deviation in 8-bit grey levels.
        iterations: how many, at least one.
        weight: the last lambda in units of the noise.
        spin: move the basis by a random number of pixels in each iteration (Coifman and Donoho 1995), against the
            blocks of a basis that is fixed. The functional then changes with every iteration; the result is the
            mean of the last quarter of them.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: PyWavelets is not installed.
    """
    lipschitz = MARGIN * squared_norm(operator)
    last = last_weight(noise_gain(operator), weight * sigma / GREY_LEVELS) / lipschitz
    falling = strengths(FIRST, last, iterations)
    prox = shrinkage(operator.image_shape, spin=spin)
    averaged = falling.count(falling[-1]) if spin else 1
    return fista(operator, measurements, prox, falling, lipschitz, averaged).clamp(-1, 1)


def shrinkage(image_shape: tuple[int, int, int], *, spin: bool) -> Prox:
    """Return the soft thresholding of all wavelet coefficients but the coarsest averages.

    Args:
        image_shape: ``(C, H, W)`` of what it takes.
        spin: see :func:`wavelet`; the moves are drawn with a fixed seed.

    Raises:
        ConfigurationError: PyWavelets is not installed.
    """
    pywt = imported("pywt")
    # Deeper, every coefficient would be one of the border.
    levels = _levels(image_shape, pywt.dwt_max_level(min(image_shape[1:]), WAVELET))
    draw = np.random.default_rng(0)

    def shrink(image: Tensor, strength: float) -> Tensor:
        move = draw.integers(0, 2**levels, 2) if spin else np.zeros(2, int)
        moved = np.roll(image.cpu().numpy(), move, (1, 2))
        averages, *details = pywt.wavedec2(moved, WAVELET, "periodization", levels, axes=(1, 2))
        shrunk = [averages, *(tuple(_soft(d, strength) for d in each) for each in details)]
        restored = pywt.waverec2(shrunk, WAVELET, "periodization", axes=(1, 2))
        return torch.from_numpy(np.roll(restored, -move, (1, 2)).astype(np.float32))

    return shrink


def _levels(image_shape: tuple[int, int, int], deepest: int) -> int:
    """Return how often both sides can be halved without a rest, up to two limits: W is orthogonal then."""
    height, width = image_shape[1:]
    depths = range(min(MOST_LEVELS, deepest) + 1)
    return max(n for n in depths if not (height % 2**n or width % 2**n))


def _soft(values: Any, strength: float) -> Any:
    return np.sign(values) * np.maximum(np.abs(values) - strength, 0)
