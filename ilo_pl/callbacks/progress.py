"""One progress bar for the whole run: stage, step, loss, time left."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ilo_pl.inversion.module import ILOInversion

REFRESH_SECONDS = 0.25


class StageProgress(ProgressBar):
    """Shows images done, the stage, its split and step, the loss and the time left.

    Args:
        console: where to draw; standard error by default.
        label: a word in front of the bar.
    """

    def __init__(self, console: Console | None = None, label: str = "") -> None:
        super().__init__()
        self._console = console or Console(stderr=True)
        self._label = label
        self._progress: Progress | None = None
        self._shown = 0.0
        self._placed = False
        self._done = 0
        self._total: int | None = None

    def place(self, done: int, total: int) -> None:
        """Show the fits of a longer run in one bar, until :meth:`close`.

        Args:
            done: batches that are done.
            total: all batches of the run.
        """
        self._placed, self._done, self._total = True, done, total

    def fill(self) -> None:
        """Show all batches as done, also those of other processes and those of which no image could be used."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self._total)

    def close(self) -> None:
        """Leave the bar on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def disable(self) -> None:
        """Draw nothing: Lightning asks for it in every process but the first."""
        self._console.quiet = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        assert isinstance(pl_module, ILOInversion)
        if not self._placed:
            self._total = pl_module.count
        if self._progress is None:
            self._draw(pl_module)

    def _draw(self, module: ILOInversion) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
        )
        # In batches: those of a sequence have different numbers of steps.
        task = self._progress.add_task(
            escape(self._label),
            total=self._total or 0,
            state="preparing (the first steps may compile)",
        )
        done = self._done + module.unit + module.step / module.task.schedule.total_steps
        self._progress.update(task, completed=done)
        self._progress.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar; the loss is read four times a second at most, for reading it waits."""
        assert isinstance(pl_module, ILOInversion) and self._progress is not None
        length = pl_module.task.schedule.total_steps
        done = self._done + trainer.current_epoch + (batch_idx + 1) / length
        now = time.monotonic()
        final = batch_idx + 1 == length
        if final or now - self._shown > REFRESH_SECONDS:
            self._shown = now
            self._progress.update(
                self._progress.task_ids[0], completed=done, state=self._describe(pl_module, outputs)
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        if not self._placed:
            self.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.close()

    def _describe(self, module: ILOInversion, outputs: Any) -> str:
        total = self._total or 0
        parts = [f"batch {min(self._done + module.unit + 1, total)}/{total}"] if total > 1 else []
        return ", ".join([*parts, *_where(module, outputs)])


def _where(module: ILOInversion, outputs: Any) -> list[str]:
    parts = []
    phase, spec = module.phase, module.walk.spec
    verb = "re-encoding" if phase.kind == "reencode" else "stage"
    stages = len(module.task.schedule.stages)
    parts.append(f"{verb} {phase.stage + 1}/{stages} (split {spec.split})")
    before = sum(p.steps for p in module.walk.phases[: module.walk.phase])
    parts.append(f"step {max(module.step - before, 0)}/{phase.steps}")
    parts.append(f"loss {float(outputs['loss']) / len(module.walk.batch.ids):.4f}")
    return parts
