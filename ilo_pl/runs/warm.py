"""What stays between the batches that are handed to an Inverter: generator, operator, compiled search, scorer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.callbacks.stopwatch import Stopwatch
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import IloError, InputError
from ilo_pl.evaluation.metrics import Scorer
from ilo_pl.generators.precision import tf32
from ilo_pl.inversion.compilation import AUTO_MIN_PIXELS
from ilo_pl.inversion.consistency import measured_error
from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.inversion.source import InMemory, MeasurementSource
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.arrays import picture_of
from ilo_pl.io.encoded import Encoded, PictureFile
from ilo_pl.io.images import GREY_LEVELS, LoadedImage, load_image, to_bytes
from ilo_pl.operators.config import ClassifierSpec
from ilo_pl.runs.batch_size import MOST, measured_batch_size
from ilo_pl.runs.batches import usable
from ilo_pl.runs.fit import BatchSearch
from ilo_pl.runs.outcome import Outcome
from ilo_pl.runs.outside import restore_one
from ilo_pl.runs.setup import image_source, make_task
from ilo_pl.runs.sources import Picture, check_generated
from ilo_pl.runs.trainer import choose_precision, make_trainer, quiet_lightning, uses_cuda
from ilo_pl.runs.writer import NEVER_FINITE, never_finite

# What can be handed over: an array, a tensor, the bytes of a picture file, or its path.
Given = np.ndarray[Any, Any] | Tensor | bytes | str | PictureFile | LoadedImage
# Lightning sets it for deterministic kernels.
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class WarmSearch:
    """Searches the images of one configuration, batch after batch, in this process.

    Args:
        config: the configuration; its keys of folders have no effect.

    Raises:
        IloError: the generator, a mask, a package or the device is not there, or they do not fit.
    """

    def __init__(self, config: RunConfig) -> None:
        assert not isinstance(config.operator, ClassifierSpec)
        with quiet_lightning(), _left_alone():
            if config.outside:
                config.outside.require()
            else:
                make_trainer(config.trainer, [])
            self._generator = config.generator.make(imports=True)
            self._maker = config.operator.maker(self._generator.image_shape, config.seed)
        self._config = config
        self._search: BatchSearch | None = None
        self._scorer: Scorer | None = None
        self._size = config.batch_size if isinstance(config.batch_size, int) else None

    def batch_size(self, given: Mapping[str, Given]) -> int:
        """Return how many images to search at a time; ``auto`` on CUDA tries it with the first two that come."""
        if self._size is None and (self._config.outside or not uses_cuda(self._config.trainer)):
            self._size = 1
        if self._size is None and len(given) > 1:
            source, _ = self._source(dict(list(given.items())[:2]))
            good = usable(source, range(len(source.ids)))[0] if source else []
            if source is not None and len(good) > 1:
                precision, cuda = choose_precision(self._config.trainer), torch.device("cuda")
                self._size = measured_batch_size(
                    lambda count: self._task(source, count), MOST, cuda, precision
                )
        return self._size or 1

    # ---- searching ---------------------------------------------------------------------------------

    def search(self, given: Mapping[str, Given]) -> list[Outcome]:
        """Search some images together, a batch; say of each what became of it."""
        failures: dict[str, str] = {}
        source, bad = self._source(given)
        failures |= bad
        found: dict[str, Outcome] = {}
        if source is not None:
            good, more = usable(source, range(len(source.ids)))
            failures |= more
            if good and self._config.outside:
                found = self._restored(source, good)
            elif good:
                found = self._searched(source, good)
        lost = {i: Outcome(i, failure=why) for i, why in failures.items()}
        return [(lost | found)[i] for i in given]

    def _searched(self, source: MeasurementSource, good: list[int]) -> dict[str, Outcome]:
        """Search images by a fit; if the batch cannot be searched, all of them have failed."""
        taken, watch = _Taken(), Stopwatch()
        ids = [source.ids[i] for i in good]
        trainer = self._config.trainer
        with quiet_lightning(), _left_alone(), tf32(trainer.tf32):
            try:
                search = self._search_of(source)
                search.fit(good, [watch, taken])
            except InputError as error:
                return {i: Outcome(i, failure=error.what) for i in ids}
        if not search.ended:
            raise InterruptedError("The search was stopped from outside before its end.")
        faults = search.faults
        outcomes: dict[str, Outcome] = {}
        for result in taken.results:
            i = result.id
            seconds, count = watch.seconds[i], faults.get(i, 0)
            if never_finite(result, search.module.task.schedule):
                outcomes[i] = Outcome(i, failure=NEVER_FINITE, seconds=seconds, faults=count)
                continue
            outcomes[i] = Outcome(
                i,
                image=result.image,
                measurements=result.measurements,
                picture=result.picture,
                reconstruction=result,
                generator=self._config.generator,
                measured_error=result.measured_error,
                seconds=seconds,
                faults=count,
            )
        return outcomes

    def _search_of(self, source: MeasurementSource) -> BatchSearch:
        """Return what searches, made for the first images, with other images from then on."""
        if self._search is None:
            task = self._task(source, self._size or 1)
            mode = self._config.compile
            if mode == "auto":  # many images are expected
                mode = self._generator.computed_pixels >= AUTO_MIN_PIXELS
            self._search = BatchSearch(task, self._config.trainer, mode)
        self._search.module.task.source = source
        return self._search

    def _task(self, source: MeasurementSource, size: int) -> InverseTask:
        config = self._config.model_copy(update={"batch_size": size})
        return make_task(config, self._generator, source, config.schedule)

    def _restored(self, source: MeasurementSource, good: list[int]) -> dict[str, Outcome]:
        """Restore images one after the other by a method outside the engine."""
        method, sigma = self._config.outside, self._config.noise.sigma
        assert method is not None
        outcomes: dict[str, Outcome] = {}
        for index in good:
            i = source.ids[index]
            batch = source.load([index])
            try:
                image, seconds = restore_one(batch, method, sigma)
            except IloError as error:
                outcomes[i] = Outcome(i, failure=error.what)
                continue
            picture = batch.operator.picture(batch.measurements)
            error_of = float(measured_error(batch.operator, batch.measurements, image[None]))
            outcomes[i] = Outcome(
                i,
                image=image.float(),
                measurements=batch.measurements[0],
                picture=None if picture is None else picture[0],
                measured_error=(error_of, error_of),
                seconds=seconds,
            )
        return outcomes

    # ---- what is handed over -----------------------------------------------------------------------

    def _source(
        self, given: Mapping[str, Given]
    ) -> tuple[MeasurementSource | None, dict[str, str]]:
        """Return the images that can be read as a source, and why others cannot, by id."""
        shape = self._maker.measurement_shape
        if not self._config.simulate and (len(shape) != 3 or shape[0] not in (1, 3)):
            return self._numbers(given)
        failures: dict[str, str] = {}
        pictures: dict[str, Picture] = {}
        for image_id, one in given.items():
            try:
                pictures[image_id] = _picture(image_id, one)
            except InputError as error:
                failures[image_id] = error.what
        source = image_source(self._config, pictures, self._generator, self._maker)
        return (source if pictures else None), failures

    def _numbers(
        self, given: Mapping[str, Given]
    ) -> tuple[MeasurementSource | None, dict[str, str]]:
        """Return measurements that are no pictures as a source, and why some cannot be used, by id."""
        failures: dict[str, str] = {}
        good: dict[str, Tensor] = {}
        for image_id, one in given.items():
            try:
                values = _values(image_id, one, self._maker.measurement_shape)
                InMemory(self._maker.make([image_id], []), values[None], [image_id])
                good[image_id] = values
            except InputError as error:
                failures[image_id] = error.what
        if not good:
            return None, failures
        ids = list(good)
        together = InMemory(self._maker.make(ids, []), torch.stack([*good.values()]), ids)
        return together, failures

    # ---- scores ------------------------------------------------------------------------------------

    def reference(self, image_id: str, given: Given) -> Tensor:
        """Return a true image, ``(3, H, W)`` in [-1, 1].

        Raises:
            InputError: it cannot be read, or has another size than the generator's images.
        """
        picture = _picture(f"reference of {image_id}", given)
        image = picture if isinstance(picture, LoadedImage) else load_image(picture)
        size = image.rgb.shape[-1], image.rgb.shape[-2]
        check_generated(f"The reference of {image_id!r}", size, self._generator)
        return image.rgb

    def scored(self, outcome: Outcome, reference: Tensor | None) -> Outcome:
        """Return an outcome with its scores, where there is something to compare with; as of the 8-bit picture."""
        if outcome.image is None or reference is None:
            return outcome
        with _left_alone():
            self._scorer = self._scorer or Scorer()
            seen = to_bytes(outcome.image).float().div_(GREY_LEVELS).sub_(1)
            return replace(outcome, scores=self._scorer(outcome.id, seen, reference))


class _Taken(ResultCallback):
    """Takes results away from a fit."""

    def __init__(self) -> None:
        self.results: list[Reconstruction] = []

    def on_result(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: Reconstruction
    ) -> None:
        """Keep a result."""
        self.results.append(result)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Set torch's switches and random state, and a variable that Lightning sets, back behind this."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    strict = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(WORKSPACE)
    try:
        with torch.random.fork_rng([]), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(strict, warn_only=warned)
        os.environ.pop(WORKSPACE, None)
        if workspace is not None:
            os.environ[WORKSPACE] = workspace


def _picture(image_id: str, given: Given) -> Picture:
    """Return what was handed over as a picture, or a file of one.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, np.ndarray | Tensor):
        return picture_of(given, f"The image {image_id!r}")
    if isinstance(given, bytes | bytearray | memoryview):
        return Encoded(f"the bytes of {image_id!r}", bytes(given))
    if isinstance(given, str):
        return Path(given)
    if isinstance(given, Path | Encoded | LoadedImage):
        return given
    raise InputError(
        f"The image {image_id!r} is {type(given).__name__}: give an array, a tensor, bytes of a picture file or a path."
    )


def _values(image_id: str, given: Given, shape: tuple[int, ...]) -> Tensor:
    """Return measurements that are no picture.

    Raises:
        InputError: they are something else, or have another shape than the operator's.
    """
    values = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
    if not isinstance(values, Tensor) or tuple(values.shape) != shape:
        what = tuple(values.shape) if isinstance(values, Tensor) else type(given).__name__
        raise InputError(
            f"The measurements of {image_id!r} are {what}: give an array of numbers of shape {shape}."
        )
    return values
