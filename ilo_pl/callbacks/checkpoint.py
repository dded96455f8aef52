"""When to write a checkpoint: by steps, by minutes, at a signal, at an exception."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.errors import OutputError, Stopped


class Checkpointing(Checkpoint):
    """Keeps one checkpoint of the fit; Lightning runs it after all other callbacks.

    A checkpoint that cannot be written is reported by a warning, and the search goes on.

    Args:
        path: its file.
        steps: gradient steps between two of them.
        minutes: minutes between two of them.
        stop: signals that end the fit at the end of a step, with a checkpoint.
        parent: id of the process whose end ends this one; ``None``: no such process.

    Raises:
        Stopped: from within the fit, after a signal.
    """

    def __init__(
        self,
        path: Path,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        stop: StopSignals | None = None,
        parent: int | None = None,
    ) -> None:
        self._path = path
        self._steps = steps
        self._seconds = None if minutes is None else 60 * minutes
        self._stop = stop
        self._parent = parent
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time to."""
        signum = self._signal()
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
        interrupted = isinstance(exception, (Stopped, KeyboardInterrupt))
        if not interrupted and trainer.global_step and not getattr(pl_module, "updating", False):
            self._save(trainer)

    def _signal(self) -> int | None:
        if self._parent is not None and os.getppid() != self._parent:
            return signal.SIGTERM
        return self._stop.received if self._stop else None

    def _save(self, trainer: pl.Trainer) -> None:
        try:
            trainer.save_checkpoint(self._path)
        except OutputError as error:
            warnings.warn(f"No checkpoint: {error.what}", stacklevel=2)
        self._saved_at = time.monotonic()
