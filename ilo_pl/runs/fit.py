"""The one way to search a batch: a fit of its own by a module that stays, with what it has compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from ilo_pl.config.trainer import TrainerConfig
from ilo_pl.inversion.compilation import CompileMode
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.task import InverseTask
from ilo_pl.runs.trainer import make_trainer


class BatchSearch:
    """Searches batches of a task, each by a fit of its own: so nothing of one outlives it.

    Args:
        task: the inverse problem.
        trainer: what the Trainers are made of.
        compile: whether the generator is compiled, once for all batches; see :class:`ILOInversion`.
        local: the process's number on its machine, which chooses the device.
    """

    def __init__(
        self, task: InverseTask, trainer: TrainerConfig, compile: CompileMode, local: int = 0
    ) -> None:
        self.module = ILOInversion(task, compile=compile, keep_results=False)
        self._config = trainer
        self._local = local

    def fit(
        self,
        indices: Sequence[int],
        callbacks: Sequence[pl.Callback],
        *,
        logger: Logger | None = None,
        path: Path | None = None,
        origin: int | None = None,
    ) -> None:
        """Search a batch; a result callback takes away what was found.

        Args:
            indices: its images, as indices of the task's.
            callbacks: for the Trainer.
            logger: for the Trainer.
            path: a checkpoint to go on from.
            origin: gradient steps before it, when loggers are to count from there.
        """
        self.module.units = (tuple(indices),)
        self.module.origin = origin
        trainer = make_trainer(self._config, callbacks, logger, self._local)
        try:
            trainer.fit(self.module, ckpt_path=path)
        finally:
            # Trainers are reference cycles: what this one has would stay until Python looks for those.
            trainer.strategy.optimizers = []
            trainer.strategy.lr_scheduler_configs = []

    @property
    def ended(self) -> bool:
        """Whether the batch has had all its steps."""
        return self.module.unit >= self.module.count

    @property
    def faults(self) -> dict[str, int]:
        """How often the loss of each image of the batch was not finite, by id, where it happened."""
        walk = self.module.walk
        counts = {
            image_id: sum(int(r.faults[i]) for r in walk.records if r.faults is not None)
            for i, image_id in enumerate(walk.batch.ids)
        }
        return {image_id: count for image_id, count in counts.items() if count}
