"""Distances between predicted and given measurements, scalar by scalar."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError
from ilo_pl.losses.base import LossInputs, LossTerm
from ilo_pl.operators import Classifier, ForwardOperator


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
    """Return the mean of ``max(0, abs(error) - width)``: errors up to ``width`` cost nothing.

    The dead-zone linear penalty of Boyd and Vandenberghe, Convex Optimization, section 6.1.2, which the
    published ILO code offers. Other arguments as for :func:`mse`.
    """
    excess = ((predicted - measurements).abs() - width).clamp(min=0)
    return excess.flatten(1).sum(1) / observed


def cosine_distance(predicted: Tensor, measurements: Tensor) -> Tensor:
    """Return 1 - cos of the angle between predicted and given measurements, ``(B, ...)``: ``(B,)``."""
    return 1 - F.cosine_similarity(predicted.flatten(1), measurements.flatten(1), dim=1)


def _arguments(inputs: LossInputs) -> tuple[Tensor, Tensor, Tensor]:
    return inputs.predicted, inputs.measurements, inputs.observed


class _ScalarTerm(LossTerm):
    """A term that compares measurements scalar by scalar."""

    is_fidelity: ClassVar[bool] = True

    def check(self, operator: ForwardOperator) -> None:
        """Refuse classifiers, whose measurements name a class and are no logits to be met."""
        if isinstance(operator, Classifier):
            raise ConfigurationError(
                "A classifier's measurements name a class; only cross_entropy judges them.",
                hint="Use method=ilo or method=csgm, or set method.losses.cross_entropy=1 and the weight "
                "of every other measurement loss to 0.",
            )


@final
class MeasurementMSE(_ScalarTerm):
    """Mean squared error of the measurements, normalised per image by the number observed."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return mse(*_arguments(inputs))


@final
class MeasurementL1(_ScalarTerm):
    """Mean absolute error of the measurements: robust to a few that are far off."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the error of each image, ``(B,)``."""
        return mean_absolute_error(*_arguments(inputs))


@final
class DeadZone(_ScalarTerm):
    """Dead-zone linear error of the measurements.

    Args:
        width: half width of the zone in which an error costs nothing, in units of the measurements
            (for pictures on [-1, 1], 0.1 is 13 grey levels).

    Raises:
        ConfigurationError: the width is negative.
    """

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


@final
class Cosine(_ScalarTerm):
    """Cosine distance of the measurements, for embeddings of any feature network."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the distance of each image, ``(B,)``."""
        return cosine_distance(inputs.predicted, inputs.measurements)
