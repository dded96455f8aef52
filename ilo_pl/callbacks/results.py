"""Callbacks that receive each reconstruction as soon as it is done."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import pytorch_lightning as pl

if TYPE_CHECKING:
    from ilo_pl.inversion import ILOInversion
    from ilo_pl.reconstruction import Reconstruction
    from ilo_pl.walk import StageRecord


class ResultCallback(pl.Callback, abc.ABC):
    """Base of callbacks that take results away while a fit goes on."""

    @abc.abstractmethod
    def on_result(
        self, trainer: pl.Trainer, pl_module: ILOInversion, result: Reconstruction
    ) -> None:
        """Receive the reconstruction of one image."""

    def on_stage(self, trainer: pl.Trainer, pl_module: ILOInversion, record: StageRecord) -> None:
        """Receive how a solve ended, for all images of the batch; this does nothing."""
