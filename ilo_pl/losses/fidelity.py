"""Distances between predicted and given measurements, scalar by scalar."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from ilo_pl.errors import ConfigurationError
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


def mean_absolute_error(predicted: Tensor, measurements: Tensor, observed: Tensor) -> Tensor:
    """Return the mean absolute error over the observed scalars; arguments as for :func:`mse`."""
    return (predicted - measurements).abs().flatten(1).sum(1) / observed


def dead_zone_linear(
    predicted: Tensor, measurements: Tensor, observed: Tensor, width: float
) -> Tensor:
    """Return the mean of max(0, |error| - width): errors up to ``width`` cost nothing.

    The dead-zone linear penalty of Boyd and Vandenberghe, Convex Optimization, section 6.1.2, which the
    published ILO code offers. Other arguments as for :func:`mse`.
    """
    excess = ((predicted - measurements).abs() - width).clamp(min=0)
    return excess.flatten(1).sum(1) / observed


def _arguments(inputs: LossInputs) -> tuple[Tensor, Tensor, Tensor]:
    observed = inputs.operator.observed().to(inputs.image.device)
    return inputs.predicted, inputs.measurements, observed


@final
class MeasurementMSE(LossTerm):
    """Mean squared error of the measurements, normalised per image by the number observed."""

    is_fidelity: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return mse(*_arguments(inputs))


@final
class MeasurementL1(LossTerm):
    """Mean absolute error of the measurements: robust to a few that are far off."""

    is_fidelity: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return mean_absolute_error(*_arguments(inputs))


@final
class DeadZone(LossTerm):
    """Dead-zone linear error of the measurements.

    Args:
        width: half width of the zone in which an error costs nothing, in units of the measurements
            (for pictures on [-1, 1], 0.1 is 13 grey levels).

    Raises:
        ConfigurationError: the width is negative.
    """

    is_fidelity: ClassVar[bool] = True

    def __init__(self, width: float = 0.1) -> None:
        super().__init__()
        if not isinstance(width, (int, float)) or not width >= 0:
            raise ConfigurationError(
                f"width = {width!r} of the loss 'dead_zone'; give a number from 0 on."
            )
        self.width = width

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return dead_zone_linear(*_arguments(inputs), self.width)
