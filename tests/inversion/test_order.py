"""Variables are told apart by name: noise inputs from the tenth on come in another order in a ParameterDict."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch

from ilo_pl import InverseTask, MobileStyleGAN, Schedule, Stage
from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.walk import Walk
from ilo_pl.operators import Identity


@pytest.mark.parametrize("better", [[True, True], [True, False]])
def test_the_best_iterate_and_a_step_undone_keep_every_noise_input_at_its_place(
    better: list[bool],
) -> None:
    generator = MobileStyleGAN.pretrained()
    shape = generator.image_shape
    task = InverseTask(
        generator,
        Identity(shape),
        torch.zeros(2, *shape),
        schedule=Schedule(stages=(Stage(split=0, steps=1, free_noises=12),)),
        ids=["a", "b"],
        batch_size=2,
    )
    stage = Walk(task, task.source.load([0, 1]), Engine(generator, "v")).stage
    assert len(stage.noises) == 12
    start = {name: value.detach().clone() for name, value in stage.point().named()}

    def move(sign: int) -> None:
        with torch.no_grad():
            for number, (_, value) in enumerate(stage.point().named()):
                value.add_(sign * (number + 1))

    move(1)
    # No step has lowered the loss of the second image where that is not better.
    stage._remember(torch.tensor([1.0 if good else torch.inf for good in better]))
    kept = dict(stage.best_point().named())
    for number, (name, value) in enumerate(start.items()):
        for i, good in enumerate(better):
            torch.testing.assert_close(kept[name][i], value[i] + (number + 1) * good)

    # A gradient that was not finite costs an image its step.
    move(-1)
    stage.guard._finite_gradient = torch.tensor(better)
    with patch.object(stage.guard, "isolate"):
        stage.isolate()
    move(1)
    stage.settle()
    for number, (name, value) in enumerate(stage.point().named()):
        for i, good in enumerate(better):
            torch.testing.assert_close(value[i].detach(), start[name][i] + (number + 1) * good)
