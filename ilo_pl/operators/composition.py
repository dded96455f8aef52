"""Operators one after the other, for example a mask on a blurred image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import LinearOperator


class Composition(LinearOperator):
    """Apply linear operators in order: y = A_k ... A_2 A_1 x.

    Args:
        operators: at least one; each takes what the one before measures.

    Raises:
        ConfigurationError: two neighbours do not fit.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        for before, after in pairwise(operators):
            if before.measurement_shape != after.image_shape:
                raise ConfigurationError(
                    f"{type(before).__name__} measures {before.measurement_shape} and "
                    f"{type(after).__name__} takes {after.image_shape}: they cannot follow each other."
                )
        if not operators:
            raise ConfigurationError("A composition needs at least one operator.")
        super().__init__(operators[0].image_shape)
        self.chain = nn.ModuleList(operators)

    @property
    def operators(self) -> list[LinearOperator]:
        """The operators in order."""
        return [o for o in self.chain if isinstance(o, LinearOperator)]

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """That of the last operator."""
        return self.operators[-1].measurement_shape

    def measure(self, images: Tensor) -> Tensor:
        """Apply all operators in order."""
        for operator in self.operators:
            images = operator(images)
        return images

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Apply all adjoints in reverse order."""
        for operator in reversed(self.operators):
            measurements = operator.adjoint(measurements)
        return measurements

    def observed(self) -> Tensor:
        """Return how many scalars the last operator measures."""
        return self.operators[-1].observed()

    def picture(self, measurements: Tensor) -> Tensor | None:
        """Return the last operator's picture."""
        return self.operators[-1].picture(measurements)

    @property
    def count(self) -> int | None:
        """Number of images that any of the operators is bound to."""
        counts = [o.count for o in self.operators if o.count is not None]
        return max(counts) if counts else None

    def select(self, indices: Sequence[int]) -> Self:
        """Return the composition for some of the images."""
        chosen = copy.copy(self)
        chosen._modules = {"chain": nn.ModuleList(o.select(indices) for o in self.operators)}
        return chosen
