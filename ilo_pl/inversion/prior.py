"""The model that is sampled: an image before it is measured (docs/posterior.md).

Latents of all slots and noise inputs are N(0, 1). At a split behind 0 the split state is G1 of them plus a deviation d,
whose prior is Laplace or uniform on an l1 ball: the extended range, as a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.generators.base import SplitGenerator, State
from ilo_pl.generators.point import Point, free_noises, split_state, synthesise
from ilo_pl.inversion.packing import row_sums, spread
from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.stage_spec import Stage

# A variable beside the deviation: what is left of the ball's radius.
SLACK = "slack"
# Laplace numbers beyond it are none: their tail has a share of 10^-20.
FURTHEST = 45.0


@dataclass(frozen=True)
class Prior:
    """The model at one split.

    Its variables are a point whose latents and noises are those of split 0, and whose split state is numbers that the
    deviation is made of.

    Args:
        engine: the frozen parts.
        split: where the deviation is.
        scale: its mean size per scalar; 0 at split 0, where there is none.
        ball: whether it is uniform on the l1 ball that Laplace numbers of that scale are about at the rim of.
        normal: whether the numbers are N(0, 1), of which Laplace numbers are made; otherwise they are those.
    """

    engine: Engine
    split: int
    scale: float
    ball: bool
    normal: bool

    @classmethod
    def of(cls, engine: Engine, spec: Stage) -> Prior:
        """Return the model of a stage, whose ``radii.hidden`` is the mean size of a deviation."""
        numel = engine.generator.splits[spec.split].numel
        radius = spec.radii.absolute("hidden", numel) if numel else 0.0
        ball = numel > 0 and spec.sampling.prior == "ball"
        normal = spec.sampling.sampler != "proximal"
        return cls(engine, spec.split, (radius or 0.0) / max(numel, 1), ball, normal)

    @property
    def generator(self) -> SplitGenerator:
        """The generator."""
        return self.engine.generator

    @property
    def numel(self) -> int:
        """How many scalars a deviation has."""
        return self.generator.splits[self.split].numel

    def deviation(self, numbers: Mapping[str, Tensor]) -> State:
        """Return the deviation of the split state, given the numbers that it is made of.

        Laplace numbers e, one more of them e_0, are uniform on the l1 ball as e / (||e||_1 + |e_0|) (Barthe et al. 2005,
        doi:10.1214/009117904000000874).
        """
        units = dict(numbers)
        if self.normal:
            units = {name: laplace_of_normal(value) for name, value in units.items()}
        if not self.ball:
            return {name: self.scale * value for name, value in units.items()}
        norm = sum(value.abs().flatten(1).sum(1) for value in units.values())
        assert isinstance(norm, Tensor)
        radius = self.scale * self.numel
        return {
            name: radius * value / spread(norm, value)
            for name, value in units.items()
            if name != SLACK
        }

    def numbers(self, deviation: Mapping[str, Tensor]) -> State:
        """Return numbers whose :meth:`deviation` is a given one, if it is no rarer than a part in 10^20."""
        units = self._units(deviation)
        if self.normal:
            return {name: normal_of_laplace(value) for name, value in units.items()}
        return units

    def _units(self, deviation: Mapping[str, Tensor]) -> State:
        if not self.ball:
            return {name: value / self.scale for name, value in deviation.items()}
        # The l1 norm of Laplace numbers of scale 1, the slack among them, is about their number.
        units = {n: v / self.scale * (1 + 1 / self.numel) for n, v in deviation.items()}
        norm = sum(row_sums(value.abs().flatten(1)) for value in units.values())
        assert isinstance(norm, Tensor)
        slack = (self.numel + 1 - norm).clamp(min=0)
        return {**units, SLACK: slack.to(next(iter(deviation.values())))[:, None]}

    def begin(self, start: Point, front: Point | None, count: int) -> Point:
        """Return the variables of what a search found.

        Args:
            start: where it ended, at this split.
            front: behind split 0, the solution at split 0 that this split was reached from.
            count: how many noise inputs are variables.
        """
        whole = start.bare() if front is None else _joined(front.bare(), start)
        whole = free_noises(self.generator, whole, count)
        if self.split == 0:
            return whole
        base = split_state(self.generator, whole, self.engine.space, self.split)
        found = {name: start.hidden[name] - base[name] for name in base}
        return replace(whole, split=self.split, hidden=self.numbers(found))

    def point(self, variables: Point) -> Point:
        """Return the point at this split that variables stand for."""
        latents, noises = variables.latents, variables.noises
        whole = Point(0, {}, latents, noises)
        if self.split == 0:
            return whole
        here = self.generator.splits[self.split]
        engine = self.engine
        state = synthesise(engine.generator, whole, engine.space, self.split, engine.run)
        deviation = self.deviation(variables.hidden)
        hidden = {name: value + deviation[name] for name, value in state.items()}
        if latents.shape[1] > 1:
            latents = latents[:, here.first_slot :]
        noises = {i: n for i, n in noises.items() if i >= here.first_noise}
        return Point(self.split, hidden, latents, noises)


def laplace_of_normal(normal: Tensor) -> Tensor:
    """Return the Laplace numbers of scale 1 at the same quantiles as N(0, 1) numbers."""
    tail: Tensor = -math.log(2) - torch.special.log_ndtr(-normal.abs())
    return tail.copysign(normal)


def normal_of_laplace(laplace: Tensor) -> Tensor:
    """Undo :func:`laplace_of_normal`, up to quantiles of 10^-20."""
    tail = (-laplace.cpu().double().abs().clamp(max=FURTHEST)).exp() / 2
    quantile: Tensor = torch.special.ndtri(tail)
    return quantile.to(laplace).copysign(laplace)


def normal_energy(values: Sequence[Tensor]) -> Tensor:
    """Return -log p of N(0, 1) numbers ``(N, ...)``, but for a constant: ``(N,)`` in double precision."""
    return torch.stack([row_sums(value.flatten(1).square()) for value in values]).sum(0) / 2


def laplace_energy(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return -log p of Laplace numbers ``(N, ...)`` of scale 1, but for a constant: ``(N,)``, of the type of ``like``."""
    return sum((row_sums(value.flatten(1).abs()) for value in values), torch.zeros_like(like))


def dispersed(
    variables: Point, free: int, chains: int, share: float, seed: int, ids: Sequence[str]
) -> Point:
    """Return as many chains of each image, their normal variables part of the way to draws from the prior.

    Args:
        variables: of each image.
        free: how many noise inputs are variables.
        chains: how many follow each other.
        share: how far, in [0, 1].
        seed: of the draws.
        ids: of the images.
    """
    point = variables.map(lambda t: t.repeat_interleave(chains, 0))
    if share == 0:
        return point

    def moved(value: Tensor, what: str) -> Tensor:
        drawn = [
            seeding.normal(value.shape[1:], seed, ids, f"{what}, chain {c}") for c in range(chains)
        ]
        prior = torch.stack(drawn, 1).flatten(0, 1).to(value)
        return math.sqrt(1 - share**2) * value + share * prior

    noises = {i: moved(n, f"noises {i}") if i < free else n for i, n in point.noises.items()}
    return replace(point, latents=moved(point.latents, "latents"), noises=noises)


def _joined(front: Point, behind: Point) -> Point:
    """Return the point at split 0 with what lies behind a later split replaced."""
    latents = behind.latents
    used = front.latents.shape[1] - latents.shape[1]
    if used or not latents.numel():
        latents = torch.cat([front.latents[:, :used], latents], 1)
    return replace(front, latents=latents, noises={**front.noises, **behind.noises})
