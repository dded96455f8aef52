"""Pictures of stages for loggers that show pictures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction, StageRecord
from ilo_pl.io.images import to_bytes


class StagePictures(ResultCallback):
    """Log the first images' pictures, at the end of every solve and as they are returned.

    An image has one place, ``pictures/<id>``, where its solves follow each other by the step at which they ended;
    ``results/<id>`` is what is returned. TensorBoard, MLflow and Weights & Biases show pictures; other loggers
    are given none. Nothing is rendered for it.

    Args:
        images: of how many images; those that a task names first.
    """

    def __init__(self, images: int = 4) -> None:
        self._images = images

    def on_stage(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, record: StageRecord
    ) -> None:
        """Log what a solve ended with, of those images of the batch that are followed."""
        assert isinstance(pl_module, ILOInversion)
        ids = pl_module.walk.batch.ids
        for image_id, picture in zip(ids, record.image, strict=True):
            caption = f"stage {record.stage + 1}, round {record.round + 1}, split {record.split}"
            self._log(trainer, pl_module, image_id, f"pictures/{image_id}", picture, caption)

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Log what is returned."""
        assert isinstance(pl_module, ILOInversion)
        picture, name = to_bytes(result.image), f"results/{result.id}"
        self._log(trainer, pl_module, result.id, name, picture, "result")

    def _log(
        self,
        trainer: pl.Trainer,
        module: ILOInversion,
        image_id: str,
        name: str,
        picture: Tensor,
        caption: str,
    ) -> None:
        if image_id not in module.task.source.ids[: self._images]:
            return
        before = module.unit * module.task.schedule.total_steps
        step = (module.origin or 0) + before + module.step
        pixels = picture.permute(1, 2, 0).contiguous().numpy()
        for logger in trainer.loggers:
            log_picture(logger, name, pixels, step, caption)


def log_picture(
    logger: Logger, name: str, pixels: np.ndarray[Any, Any], step: int, caption: str
) -> None:
    """Give a logger a picture; loggers that show none are left alone.

    Args:
        logger: one of Lightning's.
        name: the picture's place, with ``/`` between folders.
        pixels: ``(H, W, 3)``, uint8.
        step: where it stands on the logger's axis of steps.
        caption: what it is.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        assert logger.run_id is not None
        # MLflow takes these characters in names and no others.
        key = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
        logger.experiment.log_image(logger.run_id, pixels, key=key, step=step)
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [pixels], step=step, caption=[caption])
