"""Callbacks that receive each reconstruction as soon as it is done."""

from __future__ import annotations

import abc

import pytorch_lightning as pl

from ilo_pl.inversion.reconstruction import Reconstruction, StageRecord


class ResultCallback(pl.Callback, abc.ABC):
    """Base of callbacks that take results away while a fit goes on.

    ``pl_module`` is the :class:`~ilo_pl.inversion.module.ILOInversion`, as in every hook of Lightning's.
    """

    @abc.abstractmethod
    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Receive the reconstruction of one image."""

    def on_stage(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, record: StageRecord
    ) -> None:
        """Receive how a solve ended, for all images of the batch; this does nothing."""


def result_callbacks(trainer: pl.Trainer) -> list[ResultCallback]:
    """Return a Trainer's callbacks that take results away."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [c for c in callbacks if isinstance(c, ResultCallback)]


def log_reencoding(trainer: pl.Trainer, record: StageRecord) -> None:
    """Log what re-encoding a solution cost, on average over the images."""
    assert record.reencoding is not None
    metrics = {f"reencoding_rms/stage{record.stage}": float(record.reencoding.mean())}
    for logger in trainer.loggers:
        logger.log_metrics(metrics, trainer.global_step)
