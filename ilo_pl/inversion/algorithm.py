"""Algorithm 1 of the paper (arXiv 2102.07364), from top to bottom.

It is a coroutine: it yields every minimisation that it needs and is sent the point that was found. A plain loop can
run it (:func:`complete`); Lightning runs it one gradient step at a time (:mod:`ilo_pl.inversion.walk`). Both drive
this one text, and nothing of the algorithm is anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.generators.point import (
    Point,
    carry,
    free_noises,
    mean_squared_distance,
    rejoin,
    segment,
    split_state,
)
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.stage_spec import Radii, Stage
from ilo_pl.inversion.tuning import free_weights


@dataclass(frozen=True)
class ExtendedRange:
    """What a split state is re-encoded into: a solved stage at an earlier split, and all that its balls hold.

    Args:
        spec: that stage, whose constraints and free variables hold.
        point: its solution; moved to what the last re-encoding found.
        centre: centre of its balls.
    """

    spec: Stage
    point: Point
    centre: Point

    def search(
        self, generator: SplitGenerator, entry: Entry, stage: Stage, target: Point
    ) -> Search:
        """Return the minimisation that fits the range to a point at a stage's split, as that stage says."""
        fit = {"lr": stage.reencode.lr, "steps": stage.reencode.steps}
        return Search(
            entry,
            self.spec.model_copy(update=fit),
            segment(generator, self.point, stage.split),
            segment(generator, self.centre, stage.split),
            target=target,
        )


@dataclass(frozen=True)
class Entry:
    """All that a stage knows of those before it, so that the algorithm can be taken up at it.

    Args:
        stage: number of the stage.
        point: the solution so far; it may lie at an earlier split than the stage.
        centre: centre of the balls it was found in.
        range: the extended range before it; ``None`` where nothing lies before.
    """

    stage: int
    point: Point
    centre: Point
    range: ExtendedRange | None = None


@dataclass(frozen=True)
class Search:
    """One minimisation of the algorithm.

    Args:
        entry: where the algorithm entered the stage that this belongs to.
        spec: constraints, steps, rates and free variables.
        start: where it starts.
        centre: centre of the l1 balls.
        target: the point whose split state is to be met; ``None``: the measurements are to be explained.
        cost: RMS distance per scalar that the re-encoding just before cost each image, ``(B,)``.
        front: the solution at the split before, which is what lies in front of this one.
    """

    entry: Entry
    spec: Stage
    start: Point
    centre: Point
    target: Point | None = None
    cost: Tensor | None = None
    front: Point | None = None


Algorithm = Generator[Search, Point, Point]


def intermediate_layer_optimization(
    generator: SplitGenerator, schedule: Schedule, entry: Entry
) -> Algorithm:
    """Run Algorithm 1; every ``yield`` is an argmin and is sent the point that was found.

    Args:
        generator: G; a split k cuts it into G1 and G2.
        schedule: the stages, with ``rounds`` as T.
        entry: where to begin: before the first stage, or at one that was entered before.

    Returns:
        The solution of the last stage.

    Raises:
        ConfigurationError: a re-encoding has no range before it.
    """
    point, centre, known, cost = entry.point, entry.centre, entry.range, None
    for number in range(entry.stage, len(schedule.stages)):
        stage, entry = schedule.stages[number], Entry(number, point, centre, known)
        if stage.split > point.split:  # the layer to be searched: z^p = G1(z^k)
            known = ExtendedRange(_before(schedule, number, point.split), point, centre)
            point = carry(generator, point, schedule.latent_space, stage.split, schedule.carry_skip)
        point = free_weights(generator, point, stage)
        point = centre = free_noises(generator, point, stage.free_noises)
        for turn in range(stage.rounds):  # t = 1, ..., T
            # line 4: the argmin of ||A G2(z^p) - y|| in the l1 balls around z^p
            front = known.point if known is not None else None
            point = yield Search(entry, stage, point, centre, cost=cost, front=front)
            cost = None
            if not schedule.reencodes(number, turn):
                continue
            # line 5: z^k = argmin of ||G1(z^k) - z^p||, behind the first layer in the range extended before
            known = _known(known, stage)
            found = yield known.search(generator, entry, stage, target=point)
            known = replace(known, point=rejoin(known.point, found))
            # line 6: z^p = G1(z^k). Latents and noises stay in the balls they were in.
            hidden = split_state(generator, found, schedule.latent_space, stage.split)
            cost = mean_squared_distance(hidden, point.hidden).sqrt()
            point, centre = replace(point, hidden=hidden), replace(centre, hidden=hidden)
    return point  # the image is G2(z^p)


def complete(algorithm: Algorithm, minimise: Callable[[Search], Point]) -> Point:
    """Run the algorithm to its end.

    Args:
        algorithm: :func:`intermediate_layer_optimization`, not yet begun.
        minimise: returns the best point of a search.
    """
    try:
        search = next(algorithm)
        while True:
            search = algorithm.send(minimise(search))
    except StopIteration as end:
        point: Point = end.value
        return point


def _before(schedule: Schedule, number: int, split: int) -> Stage:
    """Return the stage that found the point at an earlier split; no balls hold for a start that was given there."""
    if number:
        return schedule.stages[number - 1]
    return schedule.stages[0].model_copy(update={"split": split, "radii": Radii()})


def _known(known: ExtendedRange | None, stage: Stage) -> ExtendedRange:
    if known is None:
        raise ConfigurationError(
            f"The stage at split {stage.split} re-encodes its solution, and the search was started at that very "
            "split: no range is known before it.",
            hint="Set reencode.steps=0, or start at an earlier split.",
        )
    return known
