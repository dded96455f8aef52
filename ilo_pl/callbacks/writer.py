"""Write every reconstruction into the run folder as soon as it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytorch_lightning as pl

from ilo_pl.callbacks.results import ResultCallback
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.io import RunFolder
from ilo_pl.latents import write_latents
from ilo_pl.measurements import Measurements, Origin
from ilo_pl.operators import Mask

if TYPE_CHECKING:
    from ilo_pl.inversion import ILOInversion
    from ilo_pl.reconstruction import Reconstruction


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
        self, trainer: pl.Trainer, pl_module: ILOInversion, result: Reconstruction
    ) -> None:
        """Write one image's files.

        Raises:
            OutputError: a file could not be written.
        """
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
