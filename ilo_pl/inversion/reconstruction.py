"""What a search found: how each solve ended, and the result of one image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ilo_pl.generators.point import Point
from ilo_pl.inversion.posterior import Posterior


@dataclass(frozen=True)
class StageRecord:
    """How one solve ended.

    Args:
        stage: index of the stage.
        round: which of its rounds.
        split: its split.
        image: its images as bytes, ``(B, 3, H, W)`` uint8 on the CPU.
        loss: measurement loss of each image under the last stage's weights, ``(B,)``.
        reencoding: RMS distance per scalar that re-encoding this solution cost each image, ``(B,)``,
            or ``None`` when it was not re-encoded.
        faults: how often the loss of each image was not finite, ``(B,)``.
    """

    stage: int
    round: int
    split: int
    image: Tensor
    loss: Tensor
    reencoding: Tensor | None = None
    faults: Tensor | None = None

    def select(self, i: int) -> StageRecord:
        """Return the record of one image of the batch."""
        tensors = ("image", "loss", "reencoding", "faults")
        given = {n: t for n in tensors if (t := getattr(self, n)) is not None}
        return replace(self, **{name: tensor[i : i + 1] for name, tensor in given.items()})


@dataclass(frozen=True)
class Solution:
    """What would be returned for one image if the search ended now.

    Args:
        stage: index of the stage that found it.
        point: its variables (batch of one).
        loss: its measurement loss under the last stage's weights.
        image: ``(3, H, W)`` on the CPU; ``None`` behind a resume, which does not keep it.
    """

    stage: int
    point: Point
    loss: float
    image: Tensor | None = None


def better(new: Solution, old: Solution, rule: Literal["last", "best"]) -> Solution:
    """Return which of two solutions of one image is its result so far.

    Args:
        new: the later one.
        old: the earlier one.
        rule: ``last``: the one of the later stage, of one stage's rounds the one of the lower loss;
            ``best``: the one of the lower loss.
    """
    later = rule == "last" and new.stage > old.stage
    return new if later or new.loss < old.loss else old


@dataclass(frozen=True)
class Reconstruction:
    """What the search found for one image.

    Args:
        id: the image's id.
        image: ``(3, H, W)`` in [-1, 1], float32, on the CPU.
        measurements: the measurements it explains, on the CPU.
        picture: those measurements as a picture, ``(3 or 4, H, W)`` in [-1, 1], where they are one.
        point: the variables that generate it (batch of one), on the CPU.
        space: latent space of ``point.latents``.
        loss: its measurement loss under the last stage's weights.
        stages: how each solve ended, with this image alone.
        measured_error: RMS of A x - y in 8-bit grey levels, of the generator's picture, and of the image that is
            returned.
        posterior: what a stage that samples found; the image is then its mean.
    """

    id: str
    image: Tensor
    measurements: Tensor
    picture: Tensor | None
    point: Point
    space: str
    loss: float
    stages: tuple[StageRecord, ...]
    measured_error: tuple[float, float] = (math.nan, math.nan)
    posterior: Posterior | None = None

    def pack(self) -> dict[str, Any]:
        """Return the reconstruction as tensors and primitives, for a checkpoint."""
        point = (self.point.split, dict(self.point.named()))
        stages = [vars(stage) for stage in self.stages]
        posterior = self.posterior and self.posterior.pack()
        return {**vars(self), "point": point, "stages": stages, "posterior": posterior}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> Reconstruction:
        """Undo :meth:`pack`."""
        point = Point.from_named(*packed["point"])
        stages = tuple(StageRecord(**stage) for stage in packed["stages"])
        kept = packed.get("posterior")
        posterior = kept and Posterior.unpack(kept)
        return cls(**{**packed, "point": point, "stages": stages, "posterior": posterior})
