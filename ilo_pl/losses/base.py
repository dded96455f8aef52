"""The contract of loss terms: one number per image, never averaged over the batch."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ilo_pl.operators.base import ForwardOperator


@dataclass(frozen=True)
class LossInputs:
    """What a loss term may look at; the true image is not among it.

    Args:
        image: generated images ``(B, 3, H, W)``, about [-1, 1], float32.
        predicted: their measurements A(image), ``(B, ...)``, with fresh noise on them under stochastic
            noise addition.
        measurements: what was measured, ``(B, ...)``.
        operator: the forward operator of this batch.
        latents: the latents still in use, ``(B, n, D)``.
        counted: number of observed scalars, ``(1,)`` or ``(B,)``, where it is known already; it is the same in every step.
    """

    image: Tensor
    predicted: Tensor
    measurements: Tensor
    operator: ForwardOperator
    latents: Tensor
    counted: Tensor | None = None

    @property
    def observed(self) -> Tensor:
        """Number of observed scalars, ``(1,)`` or ``(B,)``, where the images are."""
        counted = self.operator.observed() if self.counted is None else self.counted
        return counted.to(self.image.device)


class LossTerm(nn.Module, abc.ABC):
    """One term of a stage's loss; its constructor's arguments are its options in a method file.

    Attributes:
        is_fidelity: whether it measures how well the measurements are explained. The best iterate of
            an image is the one with the lowest weighted sum of these terms.
    """

    is_fidelity: ClassVar[bool]

    @abc.abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the loss of each image, ``(B,)``."""

    def check(self, operator: ForwardOperator) -> None:
        """Raise :class:`~ilo_pl.errors.ConfigurationError` if it cannot judge such measurements."""
