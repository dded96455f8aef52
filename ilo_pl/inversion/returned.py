"""From what a search found to what is returned: moved to the measurements, holes with the grain around them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.generators.point import Point, deviated, render
from ilo_pl.inversion.consistency import consistent, measured_error
from ilo_pl.inversion.grain import grained
from ilo_pl.inversion.posterior import Posterior
from ilo_pl.inversion.reconstruction import Solution
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.images import GREY_LEVELS, to_bytes
from ilo_pl.operators.base import LinearOperator
from ilo_pl.operators.mask import Mask


def returned(
    task: InverseTask, engine: Engine, batch: Batch, i: int, found: Solution
) -> tuple[Point, Tensor, tuple[float, float]]:
    """Return an image's result: its point, its picture ``(3, H, W)``, and its measured errors, before and after.

    Args:
        task: the inverse problem.
        engine: the frozen parts.
        batch: the images that were searched.
        i: which of them.
        found: what the search found for it.
    """
    generator, space, device = engine.generator, engine.space, batch.measurements.device
    point = found.point.map(lambda t: t.to(device))
    operator, given = batch.operator.select([i]), batch.measurements[i : i + 1]
    before = render(generator, point.bare(), space)
    image = render(generator, point, space) if found.image is None else found.image[None].to(device)
    if task.consistent:
        assert isinstance(operator, LinearOperator)
        moved = consistent(operator, given, image, task.noise_sigma or 0.0)
        if task.grain and isinstance(operator, Mask):
            # On the CPU, so that all devices give the same.
            draw = seeding.normal(image.shape[1:], task.seed, [batch.ids[i]], "grain")
            moved = grained(operator.mask.cpu(), moved.float().cpu(), draw).to(moved)
        point = deviated(generator, point, space, moved)
        image = render(generator, point, space)
    errors = (float(measured_error(operator, given, shown)) for shown in (before, image))
    return point, image[0], (next(errors), next(errors))


def samples_returned(task: InverseTask, batch: Batch, i: int, drawn: Posterior) -> Posterior:
    """Return samples moved to measurements without noise, as results are; with noise the model allows for it."""
    if not task.consistent or task.noise_sigma:
        return drawn
    operator, given = batch.operator.select([i]), batch.measurements[i : i + 1]
    assert isinstance(operator, LinearOperator)
    moved = [
        to_bytes(consistent(operator, given, picture[None].to(given) / GREY_LEVELS - 1))
        for picture in drawn.samples
    ]
    return replace(drawn, samples=torch.cat(moved).cpu())
