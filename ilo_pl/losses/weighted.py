"""Weighted sums of loss terms, built from a stage's ``losses``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, nearest, unknown
from ilo_pl.losses.base import LossInputs, LossTerm
from ilo_pl.operators.base import ForwardOperator


def split_weight(value: float | Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return weight and options of a loss given as a number or as ``{weight: ..., option: ...}``."""
    if not isinstance(value, Mapping):
        return float(value), {}
    options = {key: option for key, option in value.items() if key != "weight"}
    return float(value.get("weight", 1.0)), options


def make_term(
    name: str, options: Mapping[str, Any], terms: Mapping[str, type[LossTerm]]
) -> LossTerm:
    """Build a loss term.

    Raises:
        ConfigurationError: there is no such term or option, or an option's value cannot be used.
    """
    if name not in terms:
        raise unknown("loss", name, terms)
    known = [p for p in inspect.signature(terms[name]).parameters if p not in ("args", "kwargs")]
    for option in options:
        if option not in known:
            close = nearest(option, known)
            raise ConfigurationError(
                f"The loss {name!r} has no option {option!r}.",
                choices=["weight", *known],
                hint=f"Did you mean {close[0]!r}?" if close else "",
            )
    return terms[name](**options)


class WeightedLoss(nn.Module):
    """A weighted sum of loss terms.

    Args:
        weights: weight by name of the term, or a mapping of its weight and options; terms of weight 0
            are left out.
        terms: loss terms by name.

    Raises:
        ConfigurationError: a name is none of ``terms``, an option is none of its term's, or no weight
            is above 0.
    """

    def __init__(
        self,
        weights: Mapping[str, float | Mapping[str, Any]],
        terms: Mapping[str, type[LossTerm]],
    ) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        for name, value in weights.items():
            weight, options = split_weight(value)
            term = make_term(name, options, terms)
            if weight > 0:
                self.weights[name] = weight
                self.terms[name] = term
        if not any(term.is_fidelity for term in self.terms.values()):
            raise ConfigurationError(
                f"No loss looks at the measurements: losses = {dict(weights)}.",
                choices=[name for name, term in terms.items() if term.is_fidelity],
                hint="Give one of these a weight above 0.",
            )

    def check(self, operator: ForwardOperator) -> None:
        """Raise :class:`ConfigurationError` if a term cannot judge such measurements."""
        for term in self.terms.values():
            assert isinstance(term, LossTerm)
            term.check(operator)

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
