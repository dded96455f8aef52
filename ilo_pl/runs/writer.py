"""Write every reconstruction into the run folder as soon as it is done."""

from __future__ import annotations

from typing import Literal

import pytorch_lightning as pl

from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.measurements import Measurements, Origin
from ilo_pl.operators import Mask
from ilo_pl.runs.latents import write_latents


class ResultWriter(ResultCallback):
    """Write the image, its measurements, every stage's image and the latents.

    Args:
        folder: the run folder.
        generator: which generator it is, kept with the latents.
        origin: how the measurements were made; without it they are not written as numbers.
        save_measurements: whether to write them as numbers, so that the run can be repeated from
            them; ``"auto"``: where they are no picture.
    """

    def __init__(
        self,
        folder: RunFolder,
        generator: GeneratorConfig,
        origin: Origin | None = None,
        save_measurements: bool | Literal["auto"] = "auto",
    ) -> None:
        self.folder = folder
        self.generator = generator
        self.origin = origin
        self.save_measurements = save_measurements

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Write one image's files.

        Raises:
            OutputError: a file could not be written.
        """
        assert isinstance(pl_module, ILOInversion)
        images = {f"reconstructions/{result.id}": result.image}
        if result.picture is not None:
            images[f"measurements/{result.id}"] = result.picture
        for record in result.stages:
            name = f"{result.id}.stage{record.stage}-round{record.round}-split{record.split}"
            images[f"stages/{name}"] = record.image[0]
        self.folder.write_images(images)
        wanted = self.save_measurements
        if self.origin is not None and (result.picture is None if wanted == "auto" else wanted):
            batch = pl_module.walk.batch
            operator = batch.operator.select([batch.ids.index(result.id)])
            masks = tuple(m.mask[0].cpu() for m in operator.modules() if isinstance(m, Mask))
            Measurements(result.id, self.origin, result.measurements, masks).save(self.folder)
        write_latents(self.folder, result.id, result.point, result.space, self.generator)
