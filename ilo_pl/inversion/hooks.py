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
