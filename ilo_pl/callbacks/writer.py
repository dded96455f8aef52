"""Write every reconstruction into the run folder as soon as it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from ilo_pl.callbacks.results import ResultCallback
from ilo_pl.io import RunFolder

if TYPE_CHECKING:
    from ilo_pl.inversion import ILOInversion
    from ilo_pl.reconstruction import Reconstruction


class ResultWriter(ResultCallback):
    """Write the image, its measurements, every stage's image and the latents.

    Args:
        folder: the run folder.
        generator_name: registered name of the generator, kept beside the latents.
    """

    def __init__(self, folder: RunFolder, generator_name: str) -> None:
        self.folder = folder
        self.generator_name = generator_name

    def on_result(
        self, trainer: pl.Trainer, pl_module: ILOInversion, result: Reconstruction
    ) -> None:
        """Write one image's files.

        Raises:
            OutputError: a file could not be written.
        """
        self.folder.write_image("reconstructions", result.id, result.image)
        if result.picture is not None:
            self.folder.write_image("measurements", result.id, result.picture)
        for record in result.stages:
            name = f"{result.id}.stage{record.stage}-round{record.round}-split{record.split}"
            self.folder.write_image("stages", name, record.image[0])
        self.folder.write_latents(result.id, result.point, result.space, self.generator_name)
