"""Write every reconstruction into the run folder as soon as it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from torch import Tensor

from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.measurements import Measurements, Origin
from ilo_pl.operators import Mask
from ilo_pl.runs.latents import write_latents
from ilo_pl.runs.posterior import write_posterior

NEVER_FINITE = "its loss was never finite, so that there was nothing to follow"


class ResultWriter(ResultCallback):
    """Write the image, its measurements, every stage's image, the latents, and samples where there are any.

    An image whose loss was never finite has no result: it is noted, and nothing of it is written.

    Args:
        folder: the run folder.
        generator: which generator it is, kept with the latents.
        origin: how the measurements were made; without it they are not written as numbers.
        save_measurements: whether to write them as numbers, so that the run can be repeated from
            them; ``"auto"``: where they are no picture.
        behind: writes the files beside what comes next; without it they are there when a result is handed out.

    Attributes:
        written: the files of each image so far, or why they could not be written; who takes them away empties it.
        failures: why images have no result, by id; likewise.
        errors: their measured errors, by id; likewise.
    """

    def __init__(
        self,
        folder: RunFolder,
        generator: GeneratorConfig,
        origin: Origin | None = None,
        save_measurements: bool | Literal["auto"] = "auto",
        behind: Callable[[Callable[[], list[Path]]], Future[list[Path]]] | None = None,
    ) -> None:
        self.folder = folder
        self.generator = generator
        self.origin = origin
        self.save_measurements = save_measurements
        self.written: list[Future[list[Path]]] = []
        self.failures: dict[str, str] = {}
        self.errors: dict[str, tuple[float, float]] = {}
        self._behind = behind

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Write one image's files.

        Raises:
            OutputError: a file could not be written.
        """
        assert isinstance(pl_module, ILOInversion)
        if never_finite(result, pl_module.task.schedule):
            self.failures[result.id] = NEVER_FINITE
            return
        images = {f"reconstructions/{result.id}": result.image}
        if result.picture is not None:
            images[f"measurements/{result.id}"] = result.picture
        for record in result.stages:
            name = f"{result.id}.stage{record.stage}-round{record.round}-split{record.split}"
            images[f"stages/{name}"] = record.image[0]
        self.errors[result.id] = result.measured_error
        numbers = self._numbers(pl_module, result)
        if self._behind is not None:
            self.written.append(self._behind(partial(self._write, result, images, numbers)))
            return
        there: Future[list[Path]] = Future()
        there.set_result(self._write(result, images, numbers))
        self.written.append(there)

    def _numbers(self, module: ILOInversion, result: Reconstruction) -> Measurements | None:
        """Return an image's measurements as numbers, where they are to be written."""
        wanted = self.save_measurements
        if self.origin is None or not (result.picture is None if wanted == "auto" else wanted):
            return None
        batch = module.walk.batch
        operator = batch.operator.select([batch.ids.index(result.id)])
        masks = tuple(m.mask[0].cpu() for m in operator.modules() if isinstance(m, Mask))
        return Measurements(result.id, self.origin, result.measurements, masks)

    def _write(
        self, result: Reconstruction, images: Mapping[str, Tensor], numbers: Measurements | None
    ) -> list[Path]:
        self.folder.write_images(images)
        written = [self.folder.path / f"{name}.png" for name in images]
        if result.posterior is not None:
            written += write_posterior(self.folder, result.id, result.posterior)
        if numbers is not None:
            written.append(numbers.save(self.folder))
        latents = write_latents(self.folder, result.id, result.point, result.space, self.generator)
        return [*written, latents]


def never_finite(result: Reconstruction, schedule: Schedule) -> bool:
    """Return whether no step of the search had a loss, or what it ended with has none."""
    # A deviation alone explains anything, and what it deviates from was never found.
    found = [r for r in result.stages if schedule.stages[r.stage].solver != "proximal"]
    steps = sum(schedule.stages[record.stage].steps for record in found)
    faults = sum(int(record.faults) for record in found if record.faults is not None)
    return not math.isfinite(result.loss) or 0 < steps <= faults
