"""A contract is abstract, a concrete class is final."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import ilo_pl.operators.deepinv  # noqa: F401  # its operators are seen once it is imported
from ilo_pl.config.outside import OutsideMethod
from ilo_pl.losses import LossTerm
from ilo_pl.operators import ForwardOperator
from ilo_pl.operators.config import OperatorConfig
from ilo_pl.operators.makers import OperatorMaker
from ilo_pl.operators.noise import NoiseModel


def below(contract: type[Any]) -> Iterator[type[Any]]:
    """Yield every class of the package that fulfils a contract or a part of it."""
    for kind in contract.__subclasses__():
        if kind.__module__.startswith("ilo_pl."):
            yield kind
        yield from below(kind)


@pytest.mark.parametrize(
    "contract",
    [ForwardOperator, OperatorConfig, OperatorMaker, NoiseModel, LossTerm, OutsideMethod],
)
def test_what_fulfils_a_contract_is_final(contract: type[Any]) -> None:
    kinds = list(below(contract))
    abstract = [k for k in kinds if abc.ABC in k.__bases__ or inspect.isabstract(k)]
    final = [k for k in kinds if k.__dict__.get("__final__")]
    assert inspect.isabstract(contract) and len(final) >= 3
    assert set(abstract).isdisjoint(final)
    assert set(kinds) == {*abstract, *final}
