"""Distances between predicted and given measurements."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ilo_pl.losses.base import LossInputs, LossTerm


def mse(predicted: Tensor, measurements: Tensor, observed: Tensor) -> Tensor:
    """Return the mean squared error over the scalars that were observed.

    Args:
        predicted: measurements of the generated images, ``(B, ...)``.
        measurements: what was measured, of the same shape.
        observed: number of observed scalars, ``(1,)`` or ``(B,)``.

    Returns:
        ``(B,)``.
    """
    return (predicted - measurements).square().flatten(1).sum(1) / observed


class MeasurementMSE(LossTerm):
    """Mean squared error of the measurements, normalised per image by the number observed."""

    is_fidelity: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return mse(
            inputs.predicted,
            inputs.measurements,
            inputs.operator.observed().to(inputs.image.device),
        )
