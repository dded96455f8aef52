"""What became of one image that was handed over: results, or why there are none."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ilo_pl.evaluation.metrics import Scores
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.io.folder import save_png
from ilo_pl.io.images import to_bytes, to_picture
from ilo_pl.runs.latents import latents_bytes

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Args:
        id: its id.
        failure: why it has no result, ``None`` where it has one.
        image: ``(3, H, W)`` float32 in [-1, 1] on the CPU.
        measurements: what the image explains, as numbers.
        picture: the same as a picture, ``(3 or 4, H, W)`` in [-1, 1], where they are one.
        reconstruction: all that the search found (stages, samples, variables); ``None`` for methods without one.
        generator: the generator that it is of.
        scores: how close it is to the reference, as ``metrics.csv`` has it; ``None`` without one.
        measured_error: RMS of A x - y in 8-bit grey levels, as it was found and as it is returned.
        seconds: how long its search took; images of a batch share its time evenly.
        faults: how often its loss was not finite.
    """

    id: str
    failure: str | None = None
    image: Tensor | None = None
    measurements: Tensor | None = None
    picture: Tensor | None = None
    reconstruction: Reconstruction | None = None
    generator: GeneratorConfig | None = None
    scores: Scores | None = None
    measured_error: tuple[float, float] = (math.nan, math.nan)
    seconds: float = 0.0
    faults: int = 0

    @property
    def latents(self) -> dict[str, Tensor]:
        """The variables that regenerate the image, by name, each with a batch of one."""
        return dict(self.reconstruction.point.named()) if self.reconstruction else {}

    @property
    def pixels(self) -> Pixels:
        """The image as bytes ``(H, W, 3)``."""
        assert self.image is not None, f"{self.id!r} has no result: {self.failure}"
        return np.ascontiguousarray(to_bytes(self.image).permute(1, 2, 0).numpy())

    def png(self) -> bytes:
        """Return the image as the file that a run folder keeps in ``reconstructions/``."""
        assert self.image is not None, f"{self.id!r} has no result: {self.failure}"
        return png(self.image)

    def safetensors(self) -> bytes | None:
        """Return what a run folder keeps in ``latents/``; ``None`` for methods without a search."""
        found = self.reconstruction
        if found is None or self.generator is None:
            return None
        return latents_bytes(found.point, found.space, self.generator)


def png(image: Tensor) -> bytes:
    """Return an image ``(3 or 4, H, W)`` in [-1, 1] as a PNG file."""
    file = io.BytesIO()
    save_png(to_picture(image), file)
    return file.getvalue()
