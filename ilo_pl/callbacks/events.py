"""A line of JSON for every stage of every image."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch

from ilo_pl.callbacks.stopwatch import now
from ilo_pl.errors import OutputError
from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction, StageRecord


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that the process has held so far: on the device, or in all on a CPU.

    ``None`` where the system does not say.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class EventLog(ResultCallback):
    """Appends a line at the end of each stage: loss, steps, time, throughput, memory, faults.

    Steps and time are those of this process since the line before: a resumed search counts from its
    checkpoint. A stage that is searched again after a kill has two lines; the last one counts.

    Args:
        path: the file, this process's own.
        rank: number of the process.

    Raises:
        OutputError: from within the fit, when it cannot be written.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self._path = path
        self._rank = rank
        self._since = 0.0
        self._step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the clock: a first stage without steps ends before training starts."""
        self._since, self._step = now(pl_module.device), trainer.global_step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again, from where a checkpoint has led."""
        self._since, self._step = now(pl_module.device), trainer.global_step

    def on_stage(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, record: StageRecord
    ) -> None:
        """Write a line for each image of the batch."""
        assert isinstance(pl_module, ILOInversion)
        clock = now(pl_module.device)
        seconds, steps = clock - self._since, trainer.global_step - self._step
        self._since, self._step = clock, trainer.global_step
        ids = pl_module.walk.batch.ids
        common = {
            "time": round(time.time(), 3),
            "event": "stage",
            "rank": self._rank,
            "stage": record.stage,
            "round": record.round,
            "split": record.split,
            "steps": steps,
            "seconds": round(seconds, 6),
            "image_steps_per_second": round(steps * len(ids) / seconds, 3) if seconds else None,
            "peak_memory_bytes": peak_memory(pl_module.device),
        }
        assert record.faults is not None
        lines = [
            {**common, "image": i, "loss": float(loss), "faults": int(faults)}
            for i, loss, faults in zip(ids, record.loss, record.faults, strict=True)
        ]
        self._append("".join(f"{json.dumps(line)}\n" for line in lines))
        metrics = {k: common[k] for k in ("image_steps_per_second", "peak_memory_bytes")}
        for logger in trainer.loggers:
            done = (pl_module.origin or 0) + pl_module.step
            logger.log_metrics({k: v for k, v in metrics.items() if v is not None}, done)  # type: ignore[misc]

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Leave the result to others."""

    def _append(self, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if file.tell() and not self._whole():
                    file.write(b"\n")  # the line before was cut short by a kill
                file.write(text.encode())
        except OSError as error:
            raise OutputError(f"The log {self._path} cannot be written: {error}.") from error

    def _whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"
