"""How long the search of each image takes."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch

from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction


def now(device: torch.device) -> float:
    """Return seconds on a clock, once the device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Stopwatch(ResultCallback):
    """Measures seconds from a batch's first step to its result, shared evenly by its images.

    What the first batch of a run compiles is in its time.

    Attributes:
        seconds: by image id.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = 0.0
        self._before = 0.0
        self._device = torch.device("cpu")

    def state_dict(self) -> dict[str, Any]:
        """Return what the batch has taken so far, for a checkpoint."""
        return {"spent": now(self._device) - self._began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from a checkpoint."""
        self._before = float(state_dict["spent"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start, or go on."""
        self._device = pl_module.device
        self._began = now(self._device) - self._before
        self._before = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start at a batch's first step."""
        if batch_idx == 0:
            self._began = now(pl_module.device)

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Stop; the images of a batch arrive together."""
        assert isinstance(pl_module, ILOInversion)
        ids = pl_module.walk.batch.ids
        if result.id == ids[0]:
            spent = (now(pl_module.device) - self._began) / len(ids)
            self.seconds |= dict.fromkeys(ids, spent)
