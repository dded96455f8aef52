"""How well images explain measurements, under a stage's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.generators.precision import without_autocast
from ilo_pl.inversion.source import Batch
from ilo_pl.losses import LOSSES, LossInputs, WeightedLoss
from ilo_pl.losses.fidelity import mse


class Objective:
    """The weighted losses of a batch of measurements.

    Args:
        batch: the measurements and their operator.
        losses: weight of each loss term by name, with its options.
        noise: standard deviation of stochastic noise addition, in units of the measurements.
        validation: share of the measurements that is held out of the losses and judges instead.
        judge: ``losses``: the weighted measurement losses; ``mse``: the squared error alone.
        seed: seed of the noise and of the choice of what is held out.

    Raises:
        ConfigurationError: a loss cannot judge such measurements.
    """

    def __init__(
        self,
        batch: Batch,
        losses: Mapping[str, Any],
        *,
        noise: float = 0.0,
        validation: float = 0.0,
        judge: Literal["losses", "mse"] = "losses",
        seed: int = 0,
    ) -> None:
        self.batch = batch
        self.noise = noise
        self.judge = judge
        self.seed = seed
        self.held = held_out(batch, validation, seed) if validation > 0 else None
        self._observed = batch.operator.observed().to(batch.measurements.device)
        if self.held is not None:
            self._held_count = self.held.flatten(1).sum(1)
            self._held_given = batch.measurements * self.held
        self.loss = WeightedLoss(losses, LOSSES).to(batch.measurements.device)
        self.loss.check(batch.operator)

    def __call__(
        self, image: Tensor, latents: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what judges and what is descended, for each image, in float32: each ``(B,)``.

        The judge is the measurement loss of the clean prediction, whatever noise is added to what is
        descended, or the squared error of the measurements held out.

        Args:
            image: generated images ``(B, 3, H, W)``.
            latents: the latents still in use.
            step: number of the step, which keys its noise; ``None`` adds none.
        """
        batch = self.batch
        with without_autocast(image.device):
            image = image.float()
            clean = batch.operator(image)
            if step is None or self.noise == 0:
                fidelity, total = self._losses(image, clean, latents)
            else:
                _, total = self._losses(image, clean + self._noise(step), latents)
                # Judged by its noise, an iterate would be kept for its luck.
                with torch.no_grad():
                    fidelity, _ = self._losses(image, clean, latents)
            if self.judge == "mse":
                fidelity = mse(clean, batch.measurements, self._observed)
            if self.held is not None:
                count = self._held_count
                predicted = mse(clean * self.held, self._held_given, count.clamp(min=1))
                fidelity = torch.where(count > 0, predicted, fidelity)
        return fidelity, total

    def _losses(self, image: Tensor, predicted: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.batch
        given = batch.measurements
        if self.held is not None:
            # What is held out counts as explained, so that no loss pulls at it.
            given = torch.where(self.held, predicted.detach(), given)
        inputs = LossInputs(image, predicted, given, batch.operator, latents, self._observed)
        return self.loss(inputs)  # type: ignore[no-any-return]

    def _noise(self, step: int) -> Tensor:
        """Draw a step's noise on the measurements; what is not observed has none."""
        batch = self.batch
        shape, device = batch.measurements.shape[1:], batch.measurements.device
        drawn = seeding.normal(
            shape,
            self.seed,
            batch.ids,
            "noise addition",
            step,
            device if device.type == "cuda" else seeding.CPU,
        )
        return batch.operator.hide(self.noise * drawn.to(device))


def held_out(batch: Batch, share: float, seed: int) -> Tensor:
    """Choose measurements to hold out, for each image by its id.

    Of pictures whole pixels are held out, since their channels tell much of each other.

    Args:
        batch: the measurements.
        share: which part of those that were observed, in (0, 0.5].
        seed: seed of the choice.

    Returns:
        bool, of the measurements' shape ``(B, ...)``; of an image with few of them it may be none, and the losses
        judge then.
    """
    measurements = batch.measurements
    shape = measurements.shape[1:]
    drawn = (1, *shape[1:]) if len(shape) == 3 else tuple(shape)
    held = seeding.uniform(drawn, seed, batch.ids, "validation").to(measurements.device) < share
    return batch.operator.hide(held.expand(measurements.shape).float()).bool()
