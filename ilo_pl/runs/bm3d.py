"""Methods outside the engine, to compare with: they search no generator.

BM3D (Dabov et al. 2007, doi 10.1109/TIP.2007.901238; Mäkinen et al. 2020, doi 10.1109/TIP.2020.3014721) is the
authors' package ``bm3d``, an optional extra: its licence allows non-commercial use only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.inversion.source import MeasurementSource
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.io.measurements import Measurements, Origin
from ilo_pl.io.tables import write_seconds


def bm3d(image: Tensor, sigma: float) -> Tensor:
    """Take Gaussian noise off a picture by colour BM3D, profile ``np``, in the opponent colour space.

    Args:
        image: ``(3, H, W)``; [-1, 1] is black to white, noise may lie beyond, and is not clipped first.
        sigma: the noise's standard deviation in 8-bit grey levels.

    Returns:
        ``(3, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: the package ``bm3d`` is not installed.
    """
    unit = ((image.double() + 1) / 2).permute(1, 2, 0).cpu().numpy()
    clean = np.asarray(require_bm3d().bm3d_rgb(unit, sigma / (2 * GREY_LEVELS)))
    return torch.from_numpy(clean).permute(2, 0, 1).mul(2).sub(1).clamp(-1, 1).float()


def denoise(
    folder: RunFolder,
    source: MeasurementSource,
    origin: Origin,
    sigma: float,
    *,
    save_measurements: bool,
    told: Callable[[str], None],
) -> dict[str, str]:
    """Denoise every picture of a source, one after the other, into a run folder.

    Args:
        folder: the run folder.
        source: the noisy pictures.
        origin: how they were made, kept beside them when they are saved as numbers.
        sigma: their noise's standard deviation in 8-bit grey levels.
        save_measurements: whether to save them as numbers too.
        told: is given a line about each image when it is begun.

    Returns why images could not be used, by id.
    """
    seconds, failures = dict[str, float](), dict[str, str]()
    for index, image_id in enumerate(source.ids):
        told(f"{image_id} ({index + 1}/{len(source.ids)})")
        try:
            batch = source.load([index])
        except InputError as error:
            failures[image_id] = error.what
            continue
        began = time.perf_counter()
        image = bm3d(batch.measurements[0], sigma)
        seconds[image_id] = time.perf_counter() - began
        picture = batch.operator.picture(batch.measurements)
        assert picture is not None, "the identity measures pictures"
        folder.write_image("reconstructions", image_id, image)
        folder.write_image("measurements", image_id, picture[0])
        if save_measurements:
            Measurements(image_id, origin, batch.measurements[0]).save(folder)
    write_seconds(folder, seconds)
    return failures


def require_bm3d() -> ModuleType:
    """Return the package ``bm3d``.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import bm3d as package
    except ImportError as error:
        raise ConfigurationError(
            f"BM3D needs the package 'bm3d', which cannot be imported: {error}.",
            hint="Install the extra: pip install 'ilo_pl[bm3d]' (its licence: non-commercial use only).",
        ) from None
    assert isinstance(package, ModuleType)
    return package
