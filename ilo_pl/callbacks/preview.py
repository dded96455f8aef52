"""Where a search is, for whoever looks on from another process: a small JSON file and a picture."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.errors import OutputError
from ilo_pl.generators.point import render
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import shrunk

TELL_SECONDS = 0.5
# A picture costs a forward pass and more; pictures may take this share of the time of a search.
SHARE = 0.1
LEAST_SECONDS = 1.0
SIDE = 512
# Steps of which the speed is taken: those of another stage have another.
WINDOW = 20


class LivePreview(pl.Callback):
    """Write ``<name>/progress.rank<n>.json`` and ``<name>/<id>.png`` while images are searched.

    The file tells the images of the batch, stage, split, step, loss and how long the batch has taken and will
    take; every file is replaced whole. Pictures are the best points so far, up to 512 pixels wide, and take about a
    tenth of the time at most. Nothing that is rendered reaches the search. Re-encodings, whose points are no solutions,
    and chains have no picture. What cannot be written is left out, with one warning.

    Args:
        folder: the run folder.
        name: folder of the files in it.
        rank: number of the process.
    """

    def __init__(self, folder: RunFolder, name: str, rank: int = 0) -> None:
        self._folder = folder
        self._name = name
        self._rank = rank
        self._begun = self._told = self._next_look = 0.0
        self._times: deque[float] = deque(maxlen=WINDOW + 1)
        self._pictured: int | None = None
        self._failed = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a batch that is gone on with has its time from here."""
        assert isinstance(pl_module, ILOInversion)
        self._begun = time.monotonic()
        self._told = self._next_look = 0.0
        self._times.clear()
        self._pictured = None
        self._tell(pl_module, pl_module.step, None)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look and tell when it is time to; at the end of a stage always."""
        assert isinstance(pl_module, ILOInversion)
        now, ends = time.monotonic(), pl_module.switch_is_due
        self._times.append(now)
        if pl_module.walk.searches and (ends or now >= self._next_look):
            self._look(pl_module, batch_idx + 1)
        if ends or now - self._told >= TELL_SECONDS:
            self._told = now
            loss = float(outputs["loss"]) / len(pl_module.walk.batch.ids)
            self._tell(pl_module, batch_idx + 1, loss)

    @torch.no_grad()
    def _look(self, module: ILOInversion, step: int) -> None:
        begun = time.monotonic()
        point, space = module.walk.stage.best_point(), module.task.schedule.latent_space
        images = shrunk(render(module.task.generator, point, space), SIDE).cpu()
        ids = module.walk.batch.ids
        if self._write(lambda: self._pictures(ids, images)):
            self._pictured = step
        ended = time.monotonic()
        self._next_look = ended + max(LEAST_SECONDS, (ended - begun) / SHARE)

    def _pictures(self, ids: Sequence[str], images: Tensor) -> None:
        for image_id, image in zip(ids, images, strict=True):
            self._folder.write_image(self._name, image_id, image)

    def _tell(self, module: ILOInversion, done: int, loss: float | None) -> None:
        walk, schedule = module.walk, module.task.schedule
        before = sum(p.steps for p in walk.phases[: walk.phase])
        about = {
            "images": list(walk.batch.ids),
            "kind": walk.now.kind if walk.searches or walk.now.kind != "solve" else "sample",
            "solver": walk.spec.solver,
            "stage": walk.now.stage + 1,
            "stages": len(schedule.stages),
            "split": walk.spec.split,
            "stage_step": max(done - before, 0),
            "stage_steps": walk.now.steps,
            "step": done,
            "steps": schedule.total_steps,
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "seconds": round(time.monotonic() - self._begun, 1),
            "seconds_left": self._left(schedule.total_steps - done),
            "picture_step": self._pictured,
        }
        name = f"{self._name}/progress.rank{self._rank}.json"
        self._write(lambda: self._folder.write_text(name, json.dumps(about) + "\n"))

    def _left(self, steps: int) -> float | None:
        """Return how long that many steps would take at the speed of the last ones."""
        if len(self._times) < 3:  # the first step may compile
            return None
        return round((self._times[-1] - self._times[0]) / (len(self._times) - 1) * steps, 1)

    def _write(self, write: Callable[[], object]) -> bool:
        """Write, unless the run folder is gone, which is for others to tell."""
        if self._failed or not self._folder.path.is_dir():
            return False
        try:
            write()
        except OutputError as error:
            self._failed = True
            warnings.warn(f"There is no preview any more. {error.what}", stacklevel=2)
            return False
        return True
