"""Methods outside the engine, image by image into a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from ilo_pl.config.outside import OutsideMethod
from ilo_pl.errors import IloError, InputError
from ilo_pl.inversion.source import Batch, MeasurementSource
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.measurements import Measurements, Origin
from ilo_pl.operators import Mask
from ilo_pl.runs.entry import Entry


def restore(
    folder: RunFolder,
    source: MeasurementSource,
    method: OutsideMethod,
    origin: Origin,
    sigma: float,
    *,
    save_measurements: bool | Literal["auto"],
    told: Callable[[str], None],
) -> Iterator[Entry]:
    """Restore the images of a source one after the other; one that cannot be is a failure among the others.

    Args:
        folder: the run folder, where reconstructions and measurements are written.
        source: the measurements.
        method: by which.
        origin: how the measurements were made, kept beside them when they are saved as numbers.
        sigma: their noise's standard deviation in 8-bit grey levels.
        save_measurements: whether to save them as numbers too; ``"auto"``: where they are no pictures.
        told: is given a line about each image when it is begun.

    Yields:
        What became of each image, in order.
    """
    for index, image_id in enumerate(source.ids):
        told(f"{image_id} ({index + 1}/{len(source.ids)})")
        try:
            batch = source.load([index])
            image, seconds = restore_one(batch, method, sigma)
        except IloError as error:
            yield Entry((image_id,), failures={image_id: error.what})
            continue
        folder.write_image("reconstructions", image_id, image)
        _keep(folder, batch, origin, save_measurements)
        yield Entry((image_id,), seconds={image_id: seconds})


def restore_one(batch: Batch, method: OutsideMethod, sigma: float) -> tuple[Tensor, float]:
    """Restore one image.

    Args:
        batch: its measurements.
        method: by which.
        sigma: their noise's standard deviation in 8-bit grey levels.

    Returns:
        The image ``(C, H, W)`` in [-1, 1], and how long it took to find.

    Raises:
        IloError: the image is not for this method, or it found nothing of use.
    """
    began = time.perf_counter()
    method.check_image(batch.operator)
    image = method.restore(batch.operator, batch.measurements[0], sigma)
    seconds = time.perf_counter() - began
    if not bool(torch.isfinite(image).all()):
        raise InputError(f"The method {method.name!r} found values that are NaN or infinite.")
    return image, seconds


def _keep(
    folder: RunFolder, batch: Batch, origin: Origin, save_measurements: bool | Literal["auto"]
) -> None:
    """Write what was measured of one image, as a picture and as numbers."""
    (image_id,) = batch.ids
    picture = batch.operator.picture(batch.measurements)
    if picture is not None:
        folder.write_image("measurements", image_id, picture[0])
    wanted = picture is None if save_measurements == "auto" else save_measurements
    if wanted:
        masks = tuple(m.mask[0] for m in batch.operator.modules() if isinstance(m, Mask))
        Measurements(image_id, origin, batch.measurements[0], masks).save(folder)
