"""Methods outside the engine, to compare with: they search no generator.

BM3D (Dabov et al. 2007, doi 10.1109/TIP.2007.901238; Mäkinen et al. 2020, doi 10.1109/TIP.2020.3014721) is the
authors' package ``bm3d``, an optional extra: its licence allows non-commercial use only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ilo_pl.callbacks.stopwatch import write_seconds
from ilo_pl.errors import ConfigurationError
from ilo_pl.io import RunFolder
from ilo_pl.measurements import Measurements, Origin
from ilo_pl.measuring import OperatorSpec
from ilo_pl.measuring.specs import IdentitySpec
from ilo_pl.noise import GaussianNoise, NoiseSpec
from ilo_pl.specs import Spec
from ilo_pl.task import GREY_LEVELS, MeasurementSource


class OutsideMethod(Spec):
    """A method file of a method outside the engine.

    Args:
        name: how reports call it.
        outside: which method it is.
    """

    name: str
    outside: Literal["bm3d"]

    def check(self, operator: OperatorSpec, noise: NoiseSpec) -> None:
        """Refuse what BM3D is not made for.

        Raises:
            ConfigurationError: the measurements are not the image plus Gaussian noise of known strength.
        """
        if isinstance(operator, IdentitySpec) and isinstance(noise, GaussianNoise) and noise.sigma:
            return
        raise ConfigurationError(
            "BM3D takes Gaussian noise of known strength off a picture; here the operator is "
            f"{operator.name!r} and the noise {noise.name!r} with sigma = {noise.sigma:g}.",
            hint="Use it with task=denoising noise.sigma=25 (above 0), or another method for this task.",
        )

    def load(self) -> None:
        """Make sure that the package is there.

        Raises:
            ConfigurationError: it is not installed.
        """
        _package()


def outside_method(method: dict[str, Any]) -> OutsideMethod | None:
    """Return the method of a method file when it is outside the engine, else ``None``.

    Raises:
        ConfigurationError: there is no such method outside the engine.
    """
    return OutsideMethod(**method) if "outside" in method else None


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
    clean = np.asarray(_package().bm3d_rgb(unit, sigma / (2 * GREY_LEVELS)))
    return torch.from_numpy(clean).permute(2, 0, 1).mul(2).sub(1).clamp(-1, 1).float()


def denoise(
    folder: RunFolder,
    source: MeasurementSource,
    origin: Origin,
    sigma: float,
    *,
    save_measurements: bool,
    told: Callable[[str], None],
) -> None:
    """Denoise every picture of a source, one after the other, into a run folder.

    Args:
        folder: the run folder.
        source: the noisy pictures.
        origin: how they were made, kept beside them when they are saved as numbers.
        sigma: their noise's standard deviation in 8-bit grey levels.
        save_measurements: whether to save them as numbers too.
        told: is given a line about each image when it is begun.
    """
    seconds = {}
    for index, image_id in enumerate(source.ids):
        told(f"{image_id} ({index + 1}/{len(source.ids)})")
        batch = source.load([index])
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


def _package() -> ModuleType:
    try:
        import bm3d as package
    except ImportError as error:
        raise ConfigurationError(
            f"BM3D needs the package 'bm3d', which cannot be imported: {error}.",
            hint="Install the extra: pip install 'ilo_pl[bm3d]' (its licence: non-commercial use only).",
        ) from None
    assert isinstance(package, ModuleType)
    return package
