"""How well images explain measurements, under a stage's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ilo_pl.losses import LOSSES, LossInputs, WeightedLoss
from ilo_pl.task import Batch


class Objective:
    """The weighted losses of a batch of measurements.

    Args:
        batch: the measurements and their operator.
        weights: weight of each loss term by name.
    """

    def __init__(self, batch: Batch, weights: Mapping[str, float]) -> None:
        self.batch = batch
        self.loss = WeightedLoss(weights, LOSSES).to(batch.measurements.device)

    def __call__(self, image: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the measurement loss and the total loss of each image, in float32: each ``(B,)``."""
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            inputs = LossInputs(
                image=image,
                predicted=self.batch.operator(image),
                measurements=self.batch.measurements,
                operator=self.batch.operator,
                latents=latents,
            )
            fidelity, total = self.loss(inputs)
        return fidelity, total
