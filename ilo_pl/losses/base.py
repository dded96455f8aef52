"""The contract of loss terms: one number per image, never averaged over the batch."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.errors import unknown
from ilo_pl.operators.base import ForwardOperator


@dataclass(frozen=True)
class LossInputs:
    """What a loss term may look at; the true image is not among it.

    Args:
        image: generated images ``(B, 3, H, W)``, about [-1, 1], float32.
        predicted: their measurements A(image), ``(B, ...)``.
        measurements: what was measured, ``(B, ...)``.
        operator: the forward operator of this batch.
        latents: the latents still in use, ``(B, n, D)``.
    """

    image: Tensor
    predicted: Tensor
    measurements: Tensor
    operator: ForwardOperator
    latents: Tensor


class LossTerm(nn.Module, abc.ABC):
    """One term of a stage's loss.

    Attributes:
        is_fidelity: whether it measures how well the measurements are explained. The best iterate of
            an image is the one with the lowest weighted sum of these terms.
    """

    is_fidelity: ClassVar[bool]

    @abc.abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the loss of each image, ``(B,)``."""


class WeightedLoss(nn.Module):
    """A weighted sum of loss terms.

    Args:
        weights: weight by name of the term.
        terms: constructors by name.

    Raises:
        ConfigurationError: a name is none of ``terms``.
    """

    def __init__(
        self, weights: Mapping[str, float], terms: Mapping[str, Callable[[], LossTerm]]
    ) -> None:
        super().__init__()
        for name in weights:
            if name not in terms:
                raise unknown("loss", name, terms)
        self.weights = dict(weights)
        self.terms = nn.ModuleDict({name: terms[name]() for name in weights})

    def forward(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Return the measurement loss (fidelity terms alone) and the total loss, each ``(B,)``."""
        fidelity = torch.zeros(inputs.image.shape[0], device=inputs.image.device)
        rest = torch.zeros_like(fidelity)
        for name, weight in self.weights.items():
            term = self.terms[name]
            value = weight * term(inputs)
            if term.is_fidelity:
                fidelity = fidelity + value
            else:
                rest = rest + value
        return fidelity, fidelity + rest
