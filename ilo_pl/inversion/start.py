"""Where the search of a batch of images begins."""

from __future__ import annotations

from dataclasses import replace

import torch

from ilo_pl import seeding
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.generators.point import Point, carry, differences
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.task import InverseTask


def first_point(task: InverseTask, batch: Batch, engine: Engine) -> Point:
    """Return the point that the first stage starts from: the task's, or latents as the schedule says.

    Args:
        task: the inverse problem.
        batch: its images, on the device of the search.
        engine: the frozen parts.

    Raises:
        ConfigurationError: the start that the task gives does not fit.
    """
    if task.start is not None:
        return _given_point(task, task.start(batch.ids), batch, engine)
    schedule, generator = task.schedule, engine.generator
    slots = 1 if schedule.latent_layout == "shared" else generator.num_slots
    shape = (slots, generator.latent_size(engine.space))
    if schedule.init == "random":
        normal = seeding.normal(shape, task.seed, batch.ids, "latents")
    else:
        normal = torch.zeros(len(batch.ids), *shape)
    latents = generator.from_normal(normal.to(batch.measurements.device), engine.space)
    return Point(0, {}, latents, {})


def _given_point(task: InverseTask, point: Point, batch: Batch, engine: Engine) -> Point:
    """Express a start that the task gives at the first stage's split."""
    first = task.schedule.stages[0].split
    unfit = differences(engine.generator, point, engine.space)
    if unfit or point.split > first or len(point.latents) != len(batch.ids):
        raise ConfigurationError(
            f"The start given for {', '.join(batch.ids)} is at split {point.split}, with a batch of "
            f"{len(point.latents)}; the first stage is at split {first}"
            f"{''.join(f'; {problem}' for problem in unfit)}.",
            hint="A start belongs to the same generator and lies at the first stage's split or before.",
        )
    device = batch.measurements.device
    return carry(engine.generator, point.map(lambda t: t.to(device)), engine.space, first)


def free_noises(generator: SplitGenerator, point: Point, count: int) -> Point:
    """Add the noise inputs that become free to a point, at the generator's own values.

    Args:
        generator: the generator.
        point: the point.
        count: how many are free, counted from the generator's first.
    """
    noises = dict(point.noises)
    count = min(count, len(generator.noise_shapes))
    for index in range(generator.splits[point.split].first_noise, count):
        if index not in noises:
            own = generator.stored_noise(index).to(point.latents.device)
            noises[index] = own.expand(len(point.latents), -1, -1, -1)
    return replace(point, noises=noises)
