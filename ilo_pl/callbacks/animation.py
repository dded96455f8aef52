"""The search of every image as a moving picture."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.generators.point import render
from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import shrunk, to_bytes, to_picture

FRAMES = 32
SIDE = 224
# Of more colours a GIF is larger, and of a face that moves nobody sees them.
COLOURS = 96
FRAME_MS = 90


class SearchAnimation(ResultCallback):
    """Write ``animation/<id>.gif``: where the search of each image was, at every so many steps.

    The last frame is the result. It is shown once, not over and over. Rendering takes about 32 forward passes for
    an image, which count as seconds of its search; nothing that is rendered reaches the search. Re-encodings,
    whose points are no solutions, and chains, of which an image has several, are left out.

    Args:
        folder: the run folder.
        name: folder of the animations in it.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._frames: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the frames of the batch so far, for a checkpoint."""
        return {"frames": list(self._frames)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._frames = list(state_dict["frames"])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin with where a batch starts."""
        if batch_idx == 0:
            self._frames = []
            self._look(pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look when it is time to."""
        assert isinstance(pl_module, ILOInversion)
        stride = math.ceil(pl_module.task.schedule.total_steps / FRAMES)
        if (batch_idx + 1) % stride == 0 and pl_module.walk.searches:
            self._look(pl_module)

    @torch.no_grad()
    def _look(self, module: pl.LightningModule) -> None:
        assert isinstance(module, ILOInversion)
        point = module.walk.stage.point().detach()
        images = render(module.task.generator, point, module.task.schedule.latent_space)
        self._frames.append(to_bytes(shrunk(images, SIDE)).cpu())

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Write an image's animation."""
        assert isinstance(pl_module, ILOInversion)
        if not self._frames:
            return
        ids = pl_module.walk.batch.ids
        index = ids.index(result.id)
        final = to_bytes(shrunk(result.image[None], SIDE))[0]
        first, *more = [
            to_picture(frame).quantize(COLOURS)
            for frame in [*(frames[index] for frames in self._frames), final]
        ]
        self._folder.write(
            f"{self._name}/{result.id}.gif",
            lambda path: first.save(
                path, "GIF", save_all=True, append_images=more, duration=FRAME_MS
            ),
        )
        if result.id == ids[-1]:
            self._frames = []
