"""Inversion as a module: ``trainer.fit(ILOInversion(task))``.

One epoch is one unit, a batch of images that walks through all its stages together; one Lightning step
is one gradient step. Every epoch has the same number of steps, which is what makes a run resumable at
any of them.
"""

from __future__ import annotations

from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from ilo_pl.errors import InputError, TrainerError
from ilo_pl.inversion.allocator import keep_freed_memory
from ilo_pl.inversion.compilation import CompileMode, Synthesizer
from ilo_pl.inversion.hooks import log_reencoding, result_callbacks
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.inversion.resume import KEY, Position, align_progress, check_identity, read_position
from ilo_pl.inversion.schedule import Phase
from ilo_pl.inversion.stage import Engine, SearchStage
from ilo_pl.inversion.stage_switch import Staged, StageSwitch
from ilo_pl.inversion.step_loader import StepLoader
from ilo_pl.inversion.strategy import ILOStrategy
from ilo_pl.inversion.task import InverseTask
from ilo_pl.inversion.walk import Walk


class ILOInversion(pl.LightningModule, Staged):
    """Invert a generator: solve an inverse problem by searching the generator's inputs.

    Brings its own data and the :class:`~ilo_pl.callbacks.StageSwitch` callback; the fit ends by itself.

    Args:
        task: the inverse problem.
        compile: compile the expensive end of the generator: ``True``, ``False``, ``"max-autotune"``
            (tuned kernels and, on CUDA, graphs; slow to compile), or ``"auto"``, which compiles when
            the schedule is long enough to repay it.
        keep_results: keep every :class:`Reconstruction` in :attr:`results`, and in checkpoints. Switch
            it off for long runs whose results a :class:`~ilo_pl.inversion.hooks.ResultCallback` takes away.

    Attributes:
        units: the batches of images to invert, as indices of the task's images, one after the other. Set
            it to choose some; otherwise they are this process's share of the task's.
        results: reconstructions by image id, of this process.
        unit: which of the units is being run.
        step: gradient steps that it has had.
        updating: whether the state is between two that a search can go on from.
        origin: gradient steps before the first unit, when loggers are to count from there.
        stage: the stage being run, a LightningModule whose parameters are the variables.
    """

    stage: SearchStage

    def __init__(
        self,
        task: InverseTask,
        *,
        compile: CompileMode = "auto",
        keep_results: bool = True,
    ) -> None:
        super().__init__()
        self.task = task
        self.keep_results = keep_results
        self.results: dict[str, Reconstruction] = {}
        self.units: tuple[tuple[int, ...], ...] | None = None
        self.unit = 0
        self.step = 0
        self.updating = False
        self.origin: int | None = None
        self._share: tuple[tuple[int, ...], ...] = ()
        self._synthesizer = Synthesizer(task, compile)
        self._walk: Walk | None = None

    # ---- what Lightning asks for -------------------------------------------------------------------

    @property
    def trainer(self) -> pl.Trainer:
        """The Trainer this module is attached to."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: pl.Trainer | None) -> None:
        # Lightning would resolve an unset max_epochs to 1000 with a warning before any hook runs;
        # StageSwitch sets the true number.
        if trainer is not None and trainer.fit_loop.max_epochs is None:
            trainer.fit_loop.max_epochs = -1
        pl.LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Bring the stage switch, and refuse strategies that average what must not be averaged."""
        strategy = self.trainer.strategy
        if not isinstance(strategy, (SingleDeviceStrategy, ILOStrategy)):
            raise TrainerError(
                f"{type(strategy).__name__} would average gradients of different images, or divide the "
                "variables of one.",
                hint='Pass strategy="ilo": each process inverts images of its own. Or pass devices=1.',
            )
        own = any(isinstance(c, StageSwitch) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if own else [StageSwitch()]

    def configure_model(self) -> None:
        """Begin with the first unit; a checkpoint, if any, is loaded after this."""
        device = self.trainer.strategy.root_device
        self.task.generator.to(device)
        if device.type == "cpu" and self._synthesizer.enabled:
            keep_freed_memory()
        self.results = {}
        self._share = self.units if self.units is not None else self._dealt()
        self._begin(unit=0)

    def _dealt(self) -> tuple[tuple[int, ...], ...]:
        """Return this process's share of the task's units, whose composition all processes agree on."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ILOStrategy):
            return self.task.units[strategy.global_rank :: strategy.world_size]
        return self.task.units

    @property
    def count(self) -> int:
        """How many units this fit has."""
        return len(self._share)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the images of this fit that have no result yet."""
        ids = self.task.source.ids
        return tuple(ids[i] for unit in self._share[self.unit :] for i in unit)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the current stage's optimiser and learning-rate schedule."""
        return self.walk.stage.configure_optimizers()

    def train_dataloader(self) -> StepLoader:
        """Return the numbers of an epoch's steps."""
        return StepLoader(self.task.schedule.total_steps, lambda: self.step)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Return the loss of one step: the sum over images of the current stage's loss."""
        if not isinstance(batch, int) or not batch == batch_idx == self.step:
            raise TrainerError(
                f"Step {self.step} of the module was given {str(batch)[:80]} as batch {batch_idx}.",
                hint="ILOInversion brings its own data: pass no dataloader to fit, and change no loop.",
            )
        loss: Tensor = self.walk.stage.training_step(batch, self.step)
        size = len(self.walk.batch.ids)
        self.log("loss", loss.detach() / size, batch_size=size)
        if self.origin is not None:
            steps = self.origin + self.unit * self.task.schedule.total_steps + self.step
            # Filled on the device: a number would be copied there, and the host would wait for it.
            self.log("step", torch.full_like(loss.detach(), steps), batch_size=size)
        return loss

    def on_after_backward(self) -> None:
        """Keep what is not finite in one image away from the others, then begin the update."""
        self.walk.stage.isolate()
        self.updating = True

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, then put every variable back into its ball or onto its sphere."""
        super().optimizer_step(*args, **kwargs)
        self.walk.stage.settle()
        self.step += 1
        self.updating = False

    # ---- the walk ----------------------------------------------------------------------------------

    @property
    def walk(self) -> Walk:
        """The current unit's walk through the phases."""
        assert self._walk is not None, "the module is not attached to a fit"
        return self._walk

    @property
    def phase(self) -> Phase:
        """The phase being run."""
        return self.walk.now

    @property
    def switch_is_due(self) -> bool:
        """Whether the phase being run has had all its steps."""
        return self.step >= sum(p.steps for p in self.walk.phases[: self.walk.phase + 1])

    def switch(self) -> bool:
        """End the phase; begin the next one, or the first of the next unit.

        Returns:
            Whether there is anything left to run.
        """
        self.updating = True  # what fails in here cannot be gone on from; the last checkpoint can
        ended = self.phase
        more = self._advance()
        if ended.kind == "reencode":
            place = (ended.stage, ended.round)
            ends = (r for r in self.walk.records if (r.stage, r.round) == place)
            log_reencoding(self.trainer, next(ends))
        if not more:
            self._emit()
            if self.unit + 1 == self.count:
                self.unit += 1
                self.step = 0
                self.updating = False
                return False
            self._begin(self.unit + 1)
        self.stage = self.walk.stage
        self.updating = False
        return True

    def _advance(self) -> bool:
        """End the phase; tell of the solves that ended with it."""
        seen = len(self.walk.records)
        more = self.walk.advance()
        for record in self.walk.records[seen:]:
            for callback in result_callbacks(self.trainer):
                callback.on_stage(self.trainer, self, record)
        return more

    def _begin(self, unit: int) -> None:
        self.unit = unit
        self.step = 0
        self._walk = self._new_walk(unit)
        while self.switch_is_due:  # a first stage without steps
            self._advance()
        self.stage = self.walk.stage

    def _new_walk(self, unit: int) -> Walk:
        device = self.trainer.strategy.root_device
        engine = Engine(self.task.generator, self.task.schedule.latent_space, self._synthesizer)
        # A process without a share still has a module, for Lightning to look at.
        units = self._share or self.task.units[:1]
        return Walk(self.task, self.task.source.load(units[unit]).to(device), engine)

    def _emit(self) -> None:
        """Hand out the reconstructions of the unit that has just ended."""
        for result in self.walk.results():
            if self.keep_results:
                self.results[result.id] = result
            for callback in result_callbacks(self.trainer):
                callback.on_result(self.trainer, self, result)

    # ---- checkpoints -------------------------------------------------------------------------------

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse: a checkpoint holds variables, not the generator and the measurements.

        Raises:
            TrainerError: always, with how to go on from a checkpoint.
        """
        raise TrainerError(
            "A checkpoint holds no inverse task, so that no ILOInversion can be made of it alone.",
            hint="Make the same task and go on: trainer.fit(ILOInversion(task), ckpt_path=...).",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the position, the walk and the results that are kept to a checkpoint."""
        packed = tuple(result.pack() for result in self.results.values())
        walk = self.walk
        position = Position(
            self._share, self.unit, self.step, walk.state(), packed, walk.identity, {}
        )
        checkpoint[KEY] = position.pack()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the stage that was running, so that Lightning finds parameters of its shapes.

        Raises:
            InputError: the checkpoint is damaged, of an older version or of another task.
            TrainerError: it is of other batches than this process has.
        """
        saved = read_position(checkpoint)
        if saved.units != self._share:
            raise TrainerError(
                "The checkpoint is of other batches of images than this process has.",
                hint="Resume with the same images, batch size and number of processes; a run folder "
                "(ilo-pl invert ... resume=true) can be resumed with any number of processes.",
            )
        try:
            restored = [Reconstruction.unpack(dict(packed)) for packed in saved.results]
            # A finished run's checkpoint holds the last unit's last stage.
            self._walk = self._new_walk(min(saved.unit, max(self.count - 1, 0)))
            check_identity(saved, self.walk.identity)
            self.walk.restore(saved.walk, saved.stage)
        except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"The checkpoint does not fit this task: {str(error)[:300] or repr(error)}",
                hint="Go on with the generator, schedule and images that it was written with.",
            ) from error
        self.unit, self.step = saved.unit, saved.step
        self.results = {result.id: result for result in restored}
        self.stage = self.walk.stage
        if self.step > 0:
            align_progress(checkpoint["loops"]["fit_loop"], self.unit, self.step)
