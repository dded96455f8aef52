"""What a search found for one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ilo_pl.generators.point import Point, render
from ilo_pl.inversion.walk import StageRecord, Walk


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
    """

    id: str
    image: Tensor
    measurements: Tensor
    picture: Tensor | None
    point: Point
    space: str
    loss: float
    stages: tuple[StageRecord, ...]

    def pack(self) -> dict[str, Any]:
        """Return the reconstruction as tensors and primitives, for a checkpoint."""
        point = (self.point.split, dict(self.point.named()))
        return {**vars(self), "point": point, "stages": [vars(stage) for stage in self.stages]}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> Reconstruction:
        """Undo :meth:`pack`."""
        point = Point.from_named(*packed["point"])
        stages = tuple(StageRecord(**stage) for stage in packed["stages"])
        return cls(**{**packed, "point": point, "stages": stages})


def reconstructions(walk: Walk) -> Iterator[Reconstruction]:
    """Yield what a walk that has ended found for each image of its batch."""
    batch, space = walk.batch, walk.engine.space
    pictures = batch.operator.picture(batch.measurements)
    for i, (image_id, kept) in enumerate(zip(batch.ids, walk.kept, strict=True)):
        yield Reconstruction(
            id=image_id,
            image=render(walk.engine.generator, kept.point, space)[0].cpu(),
            measurements=batch.measurements[i].cpu(),
            picture=None if pictures is None else pictures[i].cpu(),
            point=kept.point.map(lambda t: t.cpu()),
            space=space,
            loss=kept.loss,
            stages=tuple(record.select(i) for record in walk.records),
        )
