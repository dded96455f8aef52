"""What sampling found for one image: every plausible answer, and how sure each pixel is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ilo_pl.io.images import GREY_LEVELS, to_bytes

# Of the side of a picture in which samples are compared.
COMPARED = 64


@dataclass(frozen=True)
class Mixing:
    """How the chains of one image went.

    Args:
        r_hat: the largest split R-hat of what was followed; NaN where draws are too few.
        effective: the smallest effective sample size, of all steps behind the burn-in.
        acceptance: share of proposals that were accepted.
        step_size: t.
        sigma: standard deviation of the measurements that was assumed, in 8-bit grey levels.
        chains: how many there were.
        burn_in: steps of each before the first sample.
        draws: steps of each behind it.
    """

    r_hat: float
    effective: float
    acceptance: float
    step_size: float
    sigma: float
    chains: int
    burn_in: int
    draws: int


@dataclass(frozen=True)
class Posterior:
    """Samples of one image.

    Args:
        samples: pictures, ``(S, 3, H, W)`` uint8 on the CPU; those of a chain are ``samples[chain::chains]``.
        variables: what makes them, before they were moved to the measurements, ``(S, ...)`` each: ``latents`` of all
            slots, ``noises.<index>`` and, at a split behind 0, ``deviation.<name>`` of its state.
        mixing: how far to trust them.
    """

    samples: Tensor
    variables: Mapping[str, Tensor]
    mixing: Mixing

    @cached_property
    def mean(self) -> Tensor:
        """The answer of least expected squared error, ``(3, H, W)`` on [-1, 1]."""
        return self.samples.float().mean(0) / GREY_LEVELS - 1

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of each pixel, ``(3, H, W)`` on [-1, 1]; of a single sample 0."""
        values = self.samples.float()
        return values.std(0, correction=int(len(values) > 1)) / GREY_LEVELS

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Return the central credible interval of each pixel, two ``(3, H, W)`` on [-1, 1].

        A further draw is below the k-th of S sorted samples with probability k / (S + 1); in between is interpolated. The
        widest interval, that from the least sample to the largest, holds (S - 1) / (S + 1).

        Args:
            level: its probability, such as 0.9, for which 19 samples are needed.
        """
        low, high = bounds(self.samples, level)
        return low / GREY_LEVELS - 1, high / GREY_LEVELS - 1

    def coverage(self, reference: Tensor, level: float) -> float:
        """Return the share of a true image's values that lie in their intervals, among those that are not certain.

        Args:
            reference: ``(3, H, W)`` in [-1, 1].
            level: of the intervals.

        Returns:
            NaN where all samples agree everywhere.
        """
        return coverage(self.samples, to_bytes(reference), level)

    def different(self, count: int) -> list[int]:
        """Return which samples differ most, by squared distance: the two furthest, then always the furthest from all."""
        small = torch.nn.functional.adaptive_avg_pool2d(self.samples.float(), COMPARED)
        distances = torch.cdist(small.flatten(1), small.flatten(1))
        chosen = [int(distances.amax(1).argmax())]
        while len(chosen) < min(count, len(small)):
            nearest = distances[chosen].amin(0)
            nearest[chosen] = -1
            chosen.append(int(nearest.argmax()))
        return chosen

    def pack(self) -> dict[str, Any]:
        """Return tensors and primitives, for a checkpoint."""
        return {
            "samples": self.samples,
            "variables": dict(self.variables),
            "mixing": vars(self.mixing),
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Posterior:
        """Undo :meth:`pack`."""
        return cls(packed["samples"], packed["variables"], Mixing(**packed["mixing"]))


def bounds(samples: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return the central credible intervals of samples along the first dimension; see :meth:`Posterior.interval`."""
    count = len(samples)
    ordered = samples.sort(0).values
    lower = min(max((count + 1) * (1 - level) / 2 - 1, 0.0), (count - 1) / 2)

    def at(place: float) -> Tensor:
        below = int(place)
        one, other = ordered[below].float(), ordered[min(below + 1, count - 1)].float()
        return torch.lerp(one, other, place - below)

    return at(lower), at(count - 1 - lower)


def coverage(samples: Tensor, reference: Tensor, level: float) -> float:
    """Return the share of a reference that lies in the intervals of samples; see :meth:`Posterior.coverage`."""
    low, high = bounds(samples, level)
    unsure = samples.amin(0) < samples.amax(0)
    inside = (low <= reference.float()) & (reference.float() <= high)
    return float(inside[unsure].float().mean())
