"""How well images explain measurements, under a stage's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ilo_pl import rng
from ilo_pl.losses import LOSSES, LossInputs, WeightedLoss
from ilo_pl.task import Batch


class Objective:
    """The weighted losses of a batch of measurements.

    Args:
        batch: the measurements and their operator.
        losses: weight of each loss term by name, with its options.
        noise: standard deviation of stochastic noise addition, in units of the measurements.
        seed: seed of that noise.
    """

    def __init__(
        self, batch: Batch, losses: Mapping[str, Any], noise: float = 0.0, seed: int = 0
    ) -> None:
        self.batch = batch
        self.noise = noise
        self.seed = seed
        self.loss = WeightedLoss(losses, LOSSES).to(batch.measurements.device)
        self.loss.check(batch.operator)

    def __call__(
        self, image: Tensor, latents: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the measurement loss and the total loss of each image, in float32: each ``(B,)``.

        Args:
            image: generated images ``(B, 3, H, W)``.
            latents: the latents still in use.
            step: number of the step, which keys its noise; ``None`` adds none.
        """
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            predicted = self.batch.operator(image)
            if step is not None and self.noise > 0:
                predicted = predicted + self._noise(step).to(image.device)
            inputs = LossInputs(
                image=image,
                predicted=predicted,
                measurements=self.batch.measurements,
                operator=self.batch.operator,
                latents=latents,
            )
            fidelity, total = self.loss(inputs)
        return fidelity, total

    def _noise(self, step: int) -> Tensor:
        """Draw a step's noise on the measurements; what is not observed has none."""
        batch = self.batch
        shape = batch.measurements.shape[1:]
        noise = self.noise * rng.normal(shape, self.seed, batch.ids, "noise addition", step)
        noise = noise.to(batch.measurements.device)
        return batch.operator(noise) if batch.operator.per_image else noise
