"""When a stage ends: project, re-encode, go on to the next split, or to the next images."""

from __future__ import annotations

import abc
from typing import Any

import pytorch_lightning as pl

from ilo_pl.errors import TrainerError


class Staged(abc.ABC):
    """What the switch needs of a module: where it is in its schedule, and how it goes on.

    Attributes:
        unit: which of the batches of images is being run.
    """

    unit: int

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many batches of images this fit has."""

    @property
    @abc.abstractmethod
    def switch_is_due(self) -> bool:
        """Whether the phase being run has had all its steps."""

    @abc.abstractmethod
    def switch(self) -> bool:
        """End the phase and begin the next one, or the next batch of images.

        Returns:
            Whether there is anything left to run.
        """


class StageSwitch(pl.Callback):
    """Switches stages of an :class:`~ilo_pl.inversion.module.ILOInversion`, which brings this callback itself.

    It acts at the end of a step. Lightning runs ``ModelCheckpoint`` after all other callbacks, so a
    checkpoint taken at a switch holds the state behind it.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse Trainer settings that would make results silently wrong.

        Raises:
            TrainerError: for each such setting, with what to do instead.
        """
        _module(pl_module)
        if trainer.accumulate_grad_batches != 1:
            raise TrainerError(
                f"accumulate_grad_batches = {trainer.accumulate_grad_batches} would take fewer "
                "optimiser steps than the schedule asks for.",
                hint="Leave it at 1; images are independent, so larger batches change no gradient.",
            )
        if trainer.gradient_clip_val:
            raise TrainerError(
                f"gradient_clip_val = {trainer.gradient_clip_val} would clip the joint gradient of a "
                "batch, so that an image's result would depend on its neighbours.",
                hint="Leave it unset and lower the stage's lr instead.",
            )
        if trainer.limit_train_batches != 1.0 or trainer.overfit_batches:  # type: ignore[attr-defined]
            raise TrainerError(
                "limit_train_batches and overfit_batches would cut the schedule short.",
                hint="Leave them unset and shorten the stages' steps instead.",
            )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell Lightning how many epochs there are: one for each unit."""
        module = _module(pl_module)
        units = module.count
        loop = trainer.fit_loop
        if loop.epoch_progress.current.completed >= units and module.unit < units:
            raise TrainerError(
                "This Trainer has finished a fit already; a second one with it would do nothing.",
                hint="Make a new Trainer for each fit.",
            )
        limit = loop.max_epochs
        loop.max_epochs = units if limit is None or limit < 0 else min(units, limit)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do a switch that was due when the checkpoint was taken in the middle of a step's end."""
        self._switch_if_due(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Switch when the phase has had all its steps."""
        self._switch_if_due(trainer, pl_module)

    def _switch_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _module(pl_module)
        if module.switch_is_due and module.switch():
            # Replacing the optimisers alone would leave the old scheduler stepping a dead one.
            strategy = trainer.strategy
            strategy.setup_optimizers(trainer)


def _module(pl_module: pl.LightningModule) -> Staged:
    if not isinstance(pl_module, Staged):
        raise TrainerError(
            f"StageSwitch serves ILOInversion modules only; got {type(pl_module).__name__}.",
            hint="ILOInversion adds this callback by itself: leave it out of your Trainer.",
        )
    return pl_module
