"""The loss of classifier-guided generation."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.losses.base import LossInputs, LossTerm
from ilo_pl.operators import Classifier, ForwardOperator


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -sum_k target_k log softmax(logits)_k, for ``(B, K)`` each: ``(B,)``."""
    return -(target * logits.log_softmax(1)).sum(1)


@final
class CrossEntropy(LossTerm):
    """Minus the log probability of the wanted class, which the measurements name (one-hot)."""

    is_fidelity: ClassVar[bool] = True

    def check(self, operator: ForwardOperator) -> None:
        """Refuse operators that are no classifier."""
        if not isinstance(operator, Classifier):
            raise ConfigurationError(
                f"The loss 'cross_entropy' judges a classifier, and {type(operator).__name__} is none.",
                hint="Use task=ood_generation, or operator=classifier.",
            )

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the loss of each image, ``(B,)``."""
        return cross_entropy(inputs.predicted, inputs.measurements)
