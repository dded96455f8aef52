"""When a stage ends: project, re-encode, go on to the next split, or to the next images."""

from __future__ import annotations

import abc
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks
from pytorch_lightning.plugins.precision import MixedPrecision, Precision

from ilo_pl.errors import TrainerError

# Callbacks that change weights, rates, batches or the number of updates: the schedule does that.
OPTIMISER_SIDE = tuple(
    getattr(callbacks, name)
    for name in (
        "BaseFinetuning",
        "BatchSizeFinder",
        "GradientAccumulationScheduler",
        "LearningRateFinder",
        "ModelPruning",
        "StochasticWeightAveraging",
        "WeightAveraging",
    )
    if hasattr(callbacks, name)  # of Lightning's older versions some are missing
)
NAMED = 5


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

    @property
    @abc.abstractmethod
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the images of this fit that have no result yet."""

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
        if type(trainer.precision_plugin) not in (Precision, MixedPrecision):
            raise TrainerError(
                f"precision = {trainer.precision!r} converts the module once, and every stage is a new one: later "
                "images would be searched in another precision than the first.",
                hint="Pass precision='32-true', 'bf16-mixed' or '16-mixed'.",
            )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, OPTIMISER_SIDE):
                raise TrainerError(
                    f"{type(callback).__name__} would change what the schedule says of variables, rates or steps.",
                    hint="Leave it out; steps and rates are keys of the stages.",
                )
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
        # 1 is one batch, 1.0 is all of them.
        limits: Any = (trainer.limit_train_batches, trainer.overfit_batches)  # type: ignore[attr-defined]
        if isinstance(limits[0], int) or limits[0] != 1.0 or limits[1]:
            raise TrainerError(
                f"limit_train_batches = {limits[0]}, overfit_batches or fast_dev_run would cut the schedule short.",
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

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which images have no result where something ended the fit before the schedule did."""
        missing = _module(pl_module).unfinished
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            warnings.warn(
                f"The fit ended before its schedule; without a result: {', '.join(missing[:NAMED])}{more}. A "
                "checkpoint of this Trainer goes on (ckpt_path=).",
                stacklevel=2,
            )

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
