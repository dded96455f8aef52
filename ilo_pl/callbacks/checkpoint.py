"""When to write a checkpoint: by steps, by minutes, at a signal, at an exception."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.errors import OutputError, Stopped
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.restored import check_restored


class Checkpointing(Checkpoint):
    """Keeps one checkpoint of the fit; Lightning runs it after all other callbacks.

    A checkpoint that cannot be written is reported by a warning, and the search goes on.

    Args:
        path: its file.
        steps: gradient steps between two of them.
        minutes: minutes between two of them.
        stop: what ends the fit at the end of a step, with a checkpoint.

    Attributes:
        begun: whether the fit has come as far as its first step.

    Raises:
        InputError: from within the fit, when it goes on from a checkpoint that makes no sense.
        Stopped: from within the fit, after a signal.
    """

    def __init__(
        self,
        path: Path,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        stop: StopSignals | None = None,
    ) -> None:
        self._path = path
        self._steps = steps
        self._seconds = None if minutes is None else 60 * minutes
        self._stop = stop
        self._saved_at = time.monotonic()
        self.begun = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the folder; take the signals back from Lightning, which would raise at a place of its own."""
        with suppress(OSError):  # it is reported when there is something to write
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._stop is not None:
            self._stop.listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at what was restored; a switch that was due has been done before this."""
        assert isinstance(pl_module, ILOInversion)
        if pl_module.step:
            check_restored(trainer, pl_module.task.schedule, pl_module.step)
        self.begun = True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time to."""
        signum = self._stop.received if self._stop else None
        by_steps = self._steps is not None and (batch_idx + 1) % self._steps == 0
        by_time = self._seconds is not None and time.monotonic() - self._saved_at >= self._seconds
        # After the last step the results are about to be written: no checkpoint could save more.
        if batch_idx + 1 == trainer.num_training_batches:
            return
        if signum or by_steps or by_time:
            self._save(trainer)
        if signum:
            raise Stopped(signum)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save what an exception would lose, unless it came from within the update of the variables."""
        assert isinstance(pl_module, ILOInversion)
        interrupted = isinstance(exception, (Stopped, KeyboardInterrupt))
        # There is nothing to go on with behind the last step; what has not begun has nothing to lose.
        going = self.begun and pl_module.unit < pl_module.count and self._path.parent.is_dir()
        if going and not interrupted and trainer.global_step and not pl_module.updating:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        try:
            # A run folder that was removed is not to come back by this.
            if not self._path.parent.is_dir():
                raise OutputError(f"{self._path.parent} is no folder any more.")
            trainer.save_checkpoint(self._path)
        except OutputError as error:
            warnings.warn(f"No checkpoint: {error.what}", stacklevel=2)
        self._saved_at = time.monotonic()
