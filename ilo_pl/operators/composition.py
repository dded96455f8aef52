"""Operators one after the other, for example a mask on a blurred image."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Self, final

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import ForwardOperator, LinearOperator


class Chain(ForwardOperator, abc.ABC):
    """Operators in order: y = A_k(... A_2(A_1(x))). Linear or not is what its two kinds say.

    Args:
        operators: at least one; each takes what the one before measures.

    Raises:
        ConfigurationError: two neighbours do not fit, or two are bound to different numbers of images.
    """

    def __init__(self, operators: Sequence[ForwardOperator]) -> None:
        for before, after in pairwise(operators):
            if before.measurement_shape != after.image_shape:
                raise ConfigurationError(
                    f"{type(before).__name__} measures {before.measurement_shape} and "
                    f"{type(after).__name__} takes {after.image_shape}: they cannot follow each other."
                )
        if not operators:
            raise ConfigurationError("A composition needs at least one operator.")
        counts = {o.count for o in operators} - {None}
        if len(counts) > 1:
            raise ConfigurationError(
                f"The operators are bound to {' and '.join(map(str, counts))} images: one composition "
                "is for one set of images."
            )
        super().__init__(operators[0].image_shape)
        self.chain = nn.ModuleList(operators)

    @property
    def operators(self) -> list[ForwardOperator]:
        """The operators in order."""
        return [o for o in self.chain if isinstance(o, ForwardOperator)]

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """That of the last operator."""
        return self.operators[-1].measurement_shape

    @property
    def pixelwise(self) -> bool:
        """Whether all operators are."""
        return all(o.pixelwise for o in self.operators)

    def measure(self, images: Tensor) -> Tensor:
        """Apply all operators in order."""
        for operator in self.operators:
            images = operator(images)
        return images

    def hide(self, measurements: Tensor) -> Tensor:
        """Zero what the last operator hides, and what those before hide as far as pixels stay apart."""
        for operator in reversed(self.operators):
            measurements = operator.hide(measurements)
            if not operator.pixelwise:
                break
        return measurements

    def observed(self) -> Tensor:
        """Return how many scalars are measured, without those that are hidden."""
        last = self.operators[-1]
        if not last.pixelwise:
            return last.observed()
        ones = torch.ones(1, *self.measurement_shape, device=self.device)
        return self.hide(ones).flatten(1).sum(1)

    def picture(self, measurements: Tensor) -> Tensor | None:
        """Return the last operator's picture."""
        return self.operators[-1].picture(measurements)

    @property
    def count(self) -> int | None:
        """Number of images that any of the operators is bound to."""
        return next((o.count for o in self.operators if o.count is not None), None)

    def select(self, indices: Sequence[int]) -> Self:
        """Return the composition for some of the images."""
        chosen = copy.copy(self)
        chosen._modules = {"chain": nn.ModuleList(o.select(indices) for o in self.operators)}
        return chosen


@final
class Composition(Chain, LinearOperator):
    """Linear operators in order, y = A_k ... A_2 A_1 x, with the adjoint A_1* A_2* ... A_k*.

    Args:
        operators: at least one; each takes what the one before measures.

    Raises:
        ConfigurationError: two neighbours do not fit, or one is not linear.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        for operator in operators:
            if not isinstance(operator, LinearOperator):
                raise ConfigurationError(
                    f"{type(operator).__name__} is not linear, so that it has no adjoint.",
                    hint="compose() takes operators of any kind.",
                )
        super().__init__(operators)

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Apply all adjoints in reverse order."""
        for operator in reversed(self.operators):
            assert isinstance(operator, LinearOperator)
            measurements = operator.adjoint(measurements)
        return measurements


@final
class NonlinearComposition(Chain):
    """Operators in order of which at least one is not linear."""


def compose(operators: Sequence[ForwardOperator]) -> ForwardOperator:
    """Return the operators in order as one: linear, with an adjoint, when all of them are.

    Args:
        operators: at least one, the first one takes the image; each takes what the one before measures.

    Raises:
        ConfigurationError: two neighbours do not fit.
    """
    linear = [o for o in operators if isinstance(o, LinearOperator)]
    if len(linear) == len(operators):
        return Composition(linear)
    return NonlinearComposition(operators)
