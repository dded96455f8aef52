"""Where the search of a batch of images begins."""

from __future__ import annotations

import torch

from ilo_pl import seeding
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.point import Point, differences
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
    device = batch.measurements.device
    latents = generator.from_normal(normal.to(device), engine.space)
    noises = {}
    if schedule.noise_start == "random":
        noises = {
            i: seeding.normal(shape, task.seed, batch.ids, "noises", i).to(device)
            for i, shape in enumerate(generator.noise_shapes)
        }
    return Point(0, {}, latents, noises)


def _given_point(task: InverseTask, point: Point, batch: Batch, engine: Engine) -> Point:
    """Return a start that the task gives, once it is known to fit; it may lie before the first stage's split."""
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
    # What another image had beside the generator's picture is not this one's.
    return point.bare().map(lambda t: t.to(device))
