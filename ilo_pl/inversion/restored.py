"""Whether a search that was taken up from a checkpoint is in a state that it can have been in."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from ilo_pl.errors import InputError
from ilo_pl.inversion.langevin import Langevin
from ilo_pl.inversion.proximal import ProximalOptimizer
from ilo_pl.inversion.schedule import Schedule


def steps_in_phase(schedule: Schedule, step: int) -> int:
    """Return how many of a unit's steps belong to the phase that is being run.

    Args:
        schedule: the schedule.
        step: gradient steps that the unit has had.
    """
    before = 0
    for phase in schedule.phases:
        if step < before + phase.steps:
            break
        before += phase.steps
    return step - before


def check_restored(trainer: pl.Trainer, schedule: Schedule, step: int) -> None:
    """Compare optimiser and learning rate with the position; torch restores any state without a word.

    Args:
        trainer: whose fit has been restored.
        schedule: the schedule that is being run.
        step: gradient steps that the unit has had.

    Raises:
        InputError: they do not fit, so that the search would end elsewhere than without its interruption.
    """
    taken = steps_in_phase(schedule, step)
    problems = []
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, (ProximalOptimizer, Langevin)):
            problems += optimizer.problems(taken)
            continue
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        moments = [(p, m) for p in parameters for m in optimizer.state.get(p, {}).values()]
        vectors = [(p, m) for p, m in moments if isinstance(m, torch.Tensor) and m.ndim]
        if any(m.shape != p.shape for p, m in vectors):
            problems.append("the optimiser's moments have other shapes than the variables")
        elif not all(bool(torch.isfinite(m).all()) for _, m in vectors):
            problems.append("the optimiser's moments are not finite")
        # Under 16-mixed a step may have been left out.
        elif taken and not vectors and trainer.precision != "16-mixed":
            problems.append("the optimiser has no moments")
        if not all(bool(torch.isfinite(p).all()) for p in parameters):
            problems.append("the variables are not finite")
    for config in trainer.lr_scheduler_configs:
        if config.scheduler.last_epoch != taken:
            problems.append(f"the learning rate is that of step {config.scheduler.last_epoch}")
    if problems:
        raise InputError(
            f"The checkpoint makes no sense at step {taken} of its stage: {'; '.join(problems)}."
        )
