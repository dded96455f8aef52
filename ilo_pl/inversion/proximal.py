"""The deviation stage: what an image has beside the generator's picture, x = G + d, in proximal steps.

Sparse deviations of Dhar et al. (2018, arXiv 1807.01442) generalised: what keeps d small is any denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ilo_pl.denoisers import DENOISERS
from ilo_pl.generators.point import Point, render
from ilo_pl.generators.precision import autocast_type, in_type
from ilo_pl.inversion.consistency import blended, consistent, error_level
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.packing import spread
from ilo_pl.inversion.stage import Engine, SearchStage
from ilo_pl.inversion.stage_spec import LrScale, Proximal, Stage
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.operators.base import LinearOperator
from ilo_pl.operators.mask import Mask

# What is taken off first and last, as shares of the generator's error and of the measurements' noise; found on
# photographs that no figure is reported of (docs/methods.md).
START_OF_ERROR = 1.5
END_OF_NOISE = 0.5
# Nor does it begin below so many grey levels: the generator is never right to less.
LEAST_START = 8.0
# How far from what is measured a denoiser knows better than the generator, as a share of the image's longer side.
SUPPORT = 1 / 32


def strength(spec: Proximal, error: Tensor, noise: float, step: int, steps: int) -> Tensor:
    """Return how strong the noise is that a step takes off, ``(B,)`` on [-1, 1]: it falls geometrically.

    Args:
        spec: where it begins and ends.
        error: the error of each image where the stage begins, ``(B,)``, on [-1, 1].
        noise: standard deviation of the measurements' noise, in their units.
        step: the step, from 0.
        steps: how many there are.
    """
    end = max(spec.end / GREY_LEVELS, END_OF_NOISE * noise)
    if spec.start is None:
        first = (START_OF_ERROR * error).clamp(min=max(noise, end, LEAST_START / GREY_LEVELS))
    else:
        first = torch.full_like(error, max(spec.start / GREY_LEVELS, end))
    return end * (first / end).pow(1 - step / max(steps - 1, 1))


def to_measurements(
    operator: LinearOperator,
    measurements: Tensor,
    images: Tensor,
    noise: float,
    level: Tensor,
    weight: float,
) -> Tensor:
    """Return argmin over x of ||A x - y||^2 / noise^2 + weight ||x - images||^2 / level^2, for each image.

    Args:
        operator: A.
        measurements: y, ``(B, ...)``.
        images: ``(B, 3, H, W)``.
        noise: standard deviation of the measurements' noise; 0: the nearest images with A x = y.
        level: ``(B,)``.
        weight: above 0.
    """
    residual = measurements - operator(images)
    if noise == 0:
        return images + operator.correction(residual)
    return images + operator.correction(residual, weight * noise**2 / spread(level, residual) ** 2)


class ProximalOptimizer(torch.optim.Optimizer):
    """Puts what a function returns in the place of a parameter; how many steps it has taken is in its state.

    Args:
        parameter: the parameter.
        advance: returns its next value, given the number of the step.
    """

    def __init__(self, parameter: nn.Parameter, advance: Callable[[int], Tensor]) -> None:
        super().__init__([parameter], {"lr": 1.0})
        self._parameter = parameter
        self._advance = advance

    def problems(self, taken: int) -> list[str]:
        """Return why a restored state cannot be that behind some steps."""
        found = []
        if self.state[self._parameter].get("step", 0) != taken:
            found.append("the proximal steps are not as many")
        if not bool(torch.isfinite(self._parameter).all()):
            found.append("the deviation is not finite")
        return found

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        state = self.state[self._parameter]
        taken = state.get("step", 0)
        self._parameter.copy_(self._advance(taken))
        state["step"] = taken + 1
        return loss


class ProximalStage(SearchStage):
    """Explain what the generator leaves of the measurements; the generator's picture stays as it is.

    Args:
        engine: the frozen parts.
        spec: the stage.
        start: where it starts.
        objective: how well images explain the measurements, and those.
        noise: standard deviation of the measurements' noise, in their units.
    """

    deviation: nn.Parameter

    def __init__(
        self, engine: Engine, spec: Stage, start: Point, objective: Objective, noise: float
    ) -> None:
        bare, fresh = start.bare(), start.deviation is None and spec.steps > 0
        if fresh:
            shape = (len(start.latents), *engine.generator.image_shape)
            start = replace(start, deviation=start.latents.new_zeros(shape))
        super().__init__(engine, _frozen(spec), start)
        self._objective = objective
        self._noise = noise
        operator = objective.batch.operator
        assert isinstance(operator, LinearOperator)
        self._operator = operator
        # Each alone, as its latents will render it.
        singles = [bare.select(i) for i in range(len(bare.latents))]
        self._base = torch.cat([render(engine.generator, one, engine.space) for one in singles])
        self._error = self._found_error()
        # What is kept of the generator: its picture, moved to what the measurements say.
        given = objective.batch.measurements
        self._first = consistent(operator, given, self._base, noise)
        if fresh and noise == 0:
            with torch.no_grad():
                self.deviation.copy_(self._first - self._base)
        # Lightning's precision holds while it asks for the loss, not while it asks for a step.
        self._type = autocast_type(self._base.device)
        # Moved to noisy measurements it would be noisier than what the denoiser leaves.
        self._share = (1 - (spec.proximal.keep if noise == 0 else 0.0)) * _support(operator)
        self._denoise = DENOISERS[spec.proximal.denoiser]()

    def objective(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the measurement loss and the total loss of each image."""
        self._type = autocast_type(self._base.device)
        return self._objective(self._base + self.deviation, self.latents, step)

    def best_point(self) -> Point:
        """Return a copy of the last point: each step leads to the next, and none is better before it."""
        return self.point().detach()

    def advance(self, step: int) -> Tensor:
        """Return the deviation after a step."""
        spec, noise, given = self.spec.proximal, self._noise, self._objective.batch.measurements
        level = strength(spec, self._error, noise, step, self.spec.steps)
        images = self._base + self.deviation
        moved = to_measurements(self._operator, given, images, noise, level, spec.weight)
        with in_type(self._base.device, self._type):
            found = self._denoise(moved, level)
        if step + 1 == self.spec.steps:
            found = self._first + self._share * (found - self._first)
        return found - self._base

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return what takes the proximal steps; it has no rate."""
        optimizer = ProximalOptimizer(self.deviation, self.advance)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    @torch.no_grad()
    def _found_error(self) -> Tensor:
        """Return the standard deviation of the generator's error, as far as the measurements tell it: ``(B,)``.

        Measurements that were held out tell it best.
        """
        batch, held = self._objective.batch, self._objective.held
        residual = batch.measurements - self._operator(self._base)
        if held is not None:
            # Of an image with few measurements none may be held out; then all of them tell it.
            held = held | ~spread(held.flatten(1).any(1), held)
        return error_level(self._operator, residual, self._noise, held)


def _support(operator: LinearOperator) -> Tensor | float:
    """Return how much each pixel may be the denoiser's, ``(1 or B, 1, H, W)`` under masks: less in large holes.

    Denoisers have no idea of a face; where nothing is measured nearby they only take away what the generator drew.
    """
    return blended(operator.mask, operator.mask, SUPPORT) if isinstance(operator, Mask) else 1.0


def _frozen(spec: Stage) -> Stage:
    return spec.model_copy(
        update={"lr_scale": LrScale(hidden=0.0, latents=0.0, noises=0.0, weights=0.0)}
    )
