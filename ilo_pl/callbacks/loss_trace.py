"""The loss of every image by step, for the report."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table

# A table of more says no more.
MOST_ROWS = 500


class LossTrace(ResultCallback):
    """Write ``log/losses/<id>.csv``: what chooses the best iterate, at every so many steps of each stage.

    It looks on only, and waits for no device. Re-encodings, whose objective is another, and chains are left out.

    Args:
        folder: the run folder.
        name: folder of the tables in it.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._seen: list[tuple[int, int, Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen of the batch so far, for a checkpoint."""
        return {"seen": [(step, phase, loss.cpu()) for step, phase, loss in self._seen]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._seen = [(step, phase, loss) for step, phase, loss in state_dict["seen"]]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Forget the batch before."""
        if batch_idx == 0:
            self._seen = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember a step's losses, where they are."""
        assert isinstance(pl_module, ILOInversion)
        step, walk = batch_idx + 1, pl_module.walk
        stride = math.ceil(pl_module.task.schedule.total_steps / MOST_ROWS)
        first = not self._seen or self._seen[-1][1] != walk.phase
        due = first or step % stride == 0 or pl_module.switch_is_due
        if due and walk.searches:
            self._seen.append((step, walk.phase, walk.stage.seen))

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Write an image's table."""
        assert isinstance(pl_module, ILOInversion)
        if not self._seen:
            return
        walk, stages = pl_module.walk, pl_module.task.schedule.stages
        losses = torch.stack([loss.cpu() for _, _, loss in self._seen])
        column = losses[:, walk.batch.ids.index(result.id)].tolist()
        rows = []
        for (step, number, _), loss in zip(self._seen, column, strict=True):
            phase = walk.phases[number]
            split = stages[phase.stage].split
            where = {"stage": phase.stage, "round": phase.round, "split": split}
            rows.append({"step": step, **where, "loss": loss})
        write_table(self._folder, f"{self._name}/{result.id}.csv", rows)
        if result.id == walk.batch.ids[-1]:
            self._seen = []
