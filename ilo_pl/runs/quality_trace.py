"""Watch a search: how close to the truth it would be if it were stopped after each few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.callbacks.stopwatch import now
from ilo_pl.evaluation.metrics import Scores
from ilo_pl.generators.point import render
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table


def mse_of(psnr: float) -> float:
    """Return the mean squared error on [0, 1] of a PSNR in dB."""
    return float(10 ** (-psnr / 10))


class Trace(pl.Callback):
    """Write ``trace.csv``: steps, seconds, loss and scores of the best point so far of each image.

    Seconds count from the end of a batch's first step, which may compile, and without what this
    callback takes. It looks on only: nothing that it computes reaches the search. Re-encodings, whose
    points are no solutions, and chains are left out.

    Args:
        folder: the run folder.
        every: steps between two looks; the first step and each stage's last are looked at too.
        score: compares the image of an id, ``(3, H, W)`` in [-1, 1], with the true one.
    """

    def __init__(
        self, folder: RunFolder, every: int, score: Callable[[str, Tensor], Scores]
    ) -> None:
        self._folder = folder
        self._every = every
        self._score = score
        self._rows: list[dict[str, object]] = []
        self._zero = (
            0.0  # the clock's reading that counts as 0; moved on while the clock is stopped
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look when it is time to; StageSwitch comes after this, so that a stage's end is seen."""
        assert isinstance(pl_module, ILOInversion)
        step = batch_idx + 1
        if step == 1:
            self._zero = now(pl_module.device)
        due = step == 1 or step % self._every == 0 or pl_module.switch_is_due
        if not due or not pl_module.walk.searches:
            return
        stopped = now(pl_module.device)
        self._look(pl_module, step, stopped - self._zero)
        self._zero += now(pl_module.device) - stopped

    @torch.no_grad()
    def _look(self, module: ILOInversion, step: int, seconds: float) -> None:
        stage = module.walk.stage
        space = module.task.schedule.latent_space
        images = render(module.task.generator, stage.best_point(), space).cpu()
        losses = stage.best_loss.tolist()
        for image_id, image, loss in zip(module.walk.batch.ids, images, losses, strict=True):
            scores = self._score(image_id, image)
            self._rows.append(
                {
                    "id": image_id,
                    "step": step,
                    "seconds": seconds,
                    "loss": loss,
                    "psnr": scores.psnr,
                    "mse": mse_of(scores.psnr),
                    "lpips": scores.lpips,
                }
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table."""
        write_table(self._folder, "trace.csv", self._rows)
