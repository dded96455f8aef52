"""A search that asks for no value, as on a GPU, against the same search that may ask: on a CPU, with real numbers."""

from __future__ import annotations

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from ilo_pl import InverseTask, Radii, Schedule, Stage, TinyGenerator
from ilo_pl.generators.point import Point
from ilo_pl.inversion import l1_ball, safeguard
from ilo_pl.inversion import stage as stage_module
from ilo_pl.inversion.stage import Engine, minimise
from ilo_pl.inversion.walk import Walk
from ilo_pl.operators import Identity

SHAPE = (3, 32, 32)
STEPS = 12
RADII = Radii(hidden=0.02, latents=0.05)


def found(asks: bool, sorted_entries: int, faulty_step: int | None) -> tuple[Point, Point, Tensor]:
    """Return the best and the last point of a stage of two images, and their faults."""
    generator = TinyGenerator(0)
    spec = Stage(split=2, steps=STEPS, free_noises=4, radii=RADII)
    schedule = Schedule(stages=(Stage(split=0, steps=0), spec))
    given = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, *SHAPE)
    task = InverseTask(generator, Identity(SHAPE), given, schedule=schedule, ids=["a", "b"])
    walk = Walk(task, task.source.load([0, 1]), Engine(generator, "v"))
    walk.advance()
    stage, objective = walk.stage, walk.stage.objective

    def sometimes(step: int) -> tuple[Tensor, Tensor]:
        selector, total = objective(step)
        bad = torch.tensor([1.0, torch.nan if step == faulty_step else 1.0])
        return selector * bad, total * bad

    with ExitStack() as stack:
        for module in (l1_ball, safeguard, stage_module):
            stack.enter_context(patch.object(module, "asking_is_free", lambda tensor: asks))
        stack.enter_context(patch.object(l1_ball, "SORTED", sorted_entries))
        stack.enter_context(patch.object(stage, "objective", sometimes))
        best = minimise(stage)
    return best, stage.point().detach(), stage.faults


@pytest.mark.parametrize("faulty_step", [None, 5])
@pytest.mark.parametrize("sorted_entries", [2**16, 2**8])
def test_it_finds_the_same_points_in_the_same_balls(
    sorted_entries: int, faulty_step: int | None
) -> None:
    ours = found(False, sorted_entries, faulty_step)
    theirs = found(True, sorted_entries, faulty_step)
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        for (name, value), (_, wanted) in zip(mine.named(), other.named(), strict=True):
            torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4, msg=name)
    assert ours[2].tolist() == theirs[2].tolist() == [0, int(faulty_step is not None)]
