"""How chains walk, and how fast they learn to."""

from __future__ import annotations

import math
from dataclasses import dataclass

# How fast what is adapted forgets: its gain falls with this power of the proposal.
FORGETTING = 0.6


@dataclass(frozen=True)
class Walking:
    """How chains walk.

    Args:
        burn_in: steps that adapt.
        step: t; ``None`` adapts it.
        acceptance: the share of proposals that adapting t aims at; ``None``: the sampler's own.
        leaps: leapfrog steps of a proposal.
    """

    burn_in: int
    step: float | None = None
    acceptance: float | None = None
    leaps: int = 1

    @property
    def longest(self) -> float:
        """The t at which a proposal forgets where a Gaussian of covariance M was: a quarter of a turn in all."""
        return 1 - math.cos(math.pi / 2 / self.leaps)


def gain(step: int) -> float:
    """Return how much of what a step says is adapted to."""
    return float((step + 1) ** -FORGETTING)
