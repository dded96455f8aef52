"""One search as a LightningModule: its parameters are the variables, its loss is per image."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ilo_pl.generators.base import SplitGenerator
from ilo_pl.generators.point import Point, Synthesis, mean_squared_distance, synthesise
from ilo_pl.inversion.constraints import project, project_rows
from ilo_pl.inversion.frozen_point import FrozenPoint
from ilo_pl.inversion.lr_schedules import one_cycle_drop, ramp
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.packing import asking_is_free, pack, unpack
from ilo_pl.inversion.safeguard import Safeguard, known
from ilo_pl.inversion.stage_spec import Stage


@dataclass(frozen=True)
class Engine:
    """The frozen parts that every stage of a run shares; none of them enters a checkpoint.

    Args:
        generator: the generator.
        space: latent space of the search.
        run: how to run the generator, if not by ``generator.run``.
    """

    generator: SplitGenerator
    space: str
    run: Synthesis | None = None


class SearchStage(pl.LightningModule, abc.ABC):
    """Variables, their constraints, their optimiser and the best iterate of each image.

    Args:
        engine: the frozen parts.
        spec: constraints, steps, learning rates and free noises.
        start: where the search starts, ``(B, ...)`` tensors.
        centre: centre of the l1 balls; ``start`` by default.
        fixed: names of the split state's tensors that are no variables.

    Attributes:
        hidden: the split state, one parameter for each of its tensors.
        latents: ``(B, n, D)``.
        noises: noise inputs by index.
        deviation: what is added to the generator's picture, if anything; proximal stages move it.
        weights: differences of the generator's weights, in the order of the start's.
        seen: objective of each image at the step that was taken last, ``(B,)``, for those who watch.
        best_loss: lowest objective of each image so far, ``(B,)``.
        guard: what looks after losses and gradients that are not finite.
    """

    seen: Tensor
    best_loss: Tensor

    def __init__(
        self,
        engine: Engine,
        spec: Stage,
        start: Point,
        centre: Point | None = None,
        fixed: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.engine = engine
        self.spec = spec
        self.split = start.split
        scale = spec.lr_scale
        self.hidden = nn.ParameterDict(
            {
                name: _parameter(value, scale.hidden > 0 and name not in fixed)
                for name, value in start.hidden.items()
            }
        )
        self.latents = _parameter(start.latents, scale.latents > 0)
        self.noises = nn.ParameterDict(
            {
                str(index): _parameter(value, scale.noises > 0 and index < spec.free_noises)
                for index, value in start.noises.items()
            }
        )
        self.deviation: nn.Parameter | None = None
        if start.deviation is not None:
            self.deviation = _parameter(start.deviation, spec.solver == "proximal")
        self.weights = nn.ParameterList(
            [_parameter(value, spec.tunes) for value in start.weights.values()]
        )
        self._tuned = tuple(start.weights)
        self.centre = FrozenPoint(centre if centre is not None else start)
        self.best = FrozenPoint(start)
        self.register_buffer("best_loss", start.latents.new_full((len(start.latents),), math.inf))
        self.guard = Safeguard(start.latents)
        # The variables that a step moves, and the best of them, packed: before the step, if it may have to be undone.
        self._packed: tuple[Tensor, Tensor] | None = None
        self._centres: Tensor | None = None

    @abc.abstractmethod
    def objective(self, step: int) -> tuple[Tensor, Tensor]:
        """Return what selects the best iterate and what is descended, per image: each ``(B,)``.

        Args:
            step: number of the step among all of the walk; it keys what is drawn at random.
        """

    def point(self) -> Point:
        """Return the current point; its tensors are the parameters themselves."""
        # A ParameterDict has them in the order of their names: 10 before 9.
        noises = {index: self.noises[str(index)] for index in sorted(map(int, self.noises))}
        weights = dict(zip(self._tuned, self.weights, strict=True))
        hidden = dict(self.hidden.items())
        return Point(self.split, hidden, self.latents, noises, self.deviation, weights)

    @property
    def faults(self) -> Tensor:
        """How often the loss of each image was not finite, ``(B,)``."""
        return self.guard.faults

    def best_point(self) -> Point:
        """Return a copy of the point of lowest objective of each image, the start if none was seen."""
        return self.best.point().detach()

    def training_step(self, batch: Any = None, batch_idx: int = 0) -> Tensor:
        """Evaluate the current point, remember it where it is the best, return the loss to descend.

        The losses of the images are summed, not averaged: an image's gradient does not depend on how
        many others there are. An image whose loss is not finite adds nothing.
        """
        selector, total = self.objective(batch_idx)
        self.seen = selector.detach()
        loss = self.guard.total(selector, total)
        self._remember(self.guard.trusted(selector.detach()))
        return loss

    def _movable(self, point: Point) -> list[Tensor]:
        """Return those of a point's tensors that a step may move, in the order of the stage's own."""
        named = dict(point.named())
        return [named[name] for name, value in self.point().named() if value.requires_grad]

    @torch.no_grad()
    def isolate(self) -> None:
        """Begin a step, after a backward pass: erase gradients that are not finite, note what may have to be undone."""
        self.guard.isolate(self.parameters())
        if self.guard.untroubled:
            self._packed = None
        elif self._packed is None:
            self._packed = (
                pack(self._movable(self.point())),
                pack(self._movable(self.best.point())),
            )

    @torch.no_grad()
    def settle(self) -> None:
        """End a step that :meth:`isolate` began: undo faults, then obey the constraints."""
        if self._packed is None:
            self.project()
            return
        named = {name: value for name, value in self.point().named() if value.requires_grad}
        rows = self.guard.settled(pack(list(named.values())), *self._packed)
        self._packed = None
        together = not asking_is_free(rows) and len(named) == len(list(self.point().named()))
        if together:
            if self._centres is None:
                self._centres = pack([value for _, value in self.centre.point().named()])
            project_rows(self.spec, rows, named, self._centres)
        unpack(rows, list(named.values()))
        self.project(balls=not together)

    @torch.no_grad()
    def _remember(self, loss: Tensor) -> None:
        better = loss < self.best_loss
        torch.minimum(self.best_loss, loss, out=self.best_loss)
        named = dict(self.best.point().named())
        values = [value for _, value in self.point().named()]
        here = [value.detach() for value in values]
        best = [named[name] for name, _ in self.point().named()]
        self._packed = None
        if known(better):
            torch._foreach_copy_(best, here)
            return
        now = pack(here)
        kept = torch.where(better[:, None], now, pack(best))
        unpack(kept, best)
        if not asking_is_free(now) and all(value.requires_grad for value in values):
            self._packed = now, kept  # where every step is prepared for being undone

    @torch.no_grad()
    def project(self, *, balls: bool = True) -> None:
        """Move every variable to the nearest point that its constraint allows; ``balls``: whether l1 balls count."""
        values, centres = dict(self.point().named()), dict(self.centre.point().named())
        for name, projected in project(self.spec, values, centres, balls=balls).items():
            values[name].copy_(projected)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with one group for each kind of variable, and the published ramp."""
        groups = [
            (list(self.hidden.values()), self.spec.lr_scale.hidden),
            ([self.latents], self.spec.lr_scale.latents),
            (list(self.noises.values()), self.spec.lr_scale.noises),
            (list(self.weights), self.spec.lr_scale.weights),
        ]
        optimizer = torch.optim.Adam(
            [
                {"params": free, "lr": self.spec.lr * scale}
                for parameters, scale in groups
                if (free := [p for p in parameters if p.requires_grad])
            ],
            # One kernel instead of a dozen; on a CPU it would round otherwise than before, for nothing.
            fused=self.latents.device.type == "cuda",
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _lr_factor(self, step: int) -> float:
        progress = step / max(self.spec.steps, 1)
        if self.spec.lr_schedule == "one_cycle_drop":
            return one_cycle_drop(progress)
        return ramp(progress, self.spec.ramp_up, self.spec.ramp_down)


class ILOStage(SearchStage):
    """Explain the measurements: descend the weighted losses over the variables of one split.

    Args:
        engine: the frozen parts.
        spec: the stage.
        start: where the search starts.
        objective: how well images explain the measurements.
        centre: centre of the l1 balls; ``start`` by default.
        fixed: names of the split state's tensors that are no variables.
    """

    def __init__(
        self,
        engine: Engine,
        spec: Stage,
        start: Point,
        objective: Objective,
        centre: Point | None = None,
        fixed: Sequence[str] = (),
    ) -> None:
        super().__init__(engine, spec, start, centre, fixed)
        # Not a submodule: operators and losses are rebuilt on resume, not saved.
        self._objective = objective

    def forward(self) -> Tensor:
        """Return the current images ``(B, 3, H, W)``."""
        state = synthesise(
            self.engine.generator, self.point(), self.engine.space, run=self.engine.run
        )
        return state["image"]

    def objective(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the measurement loss and the total loss of each image."""
        return self._objective(self(), self.latents, step)


class ReencodeStage(SearchStage):
    """Fit G1's inputs to a split state: line 5 of Algorithm 1, z' = argmin ||G1(z) - hidden||.

    For a split behind another stage's, G1 starts at that stage's split, within that stage's balls: the
    range is that stage's extended range.

    Args:
        engine: the frozen parts.
        spec: the stage before, whose constraints hold for the inputs, with the re-encoding's steps and rate.
        start: where its solution is.
        centre: centre of its balls.
        target: the point whose split state is to be met.
    """

    def __init__(
        self, engine: Engine, spec: Stage, start: Point, centre: Point, target: Point
    ) -> None:
        super().__init__(engine, spec, start, centre)
        self._target = target.detach()

    def objective(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the mean squared distance of G1 to the target's split state for each image, twice."""
        engine = self.engine
        state = synthesise(engine.generator, self.point(), engine.space, self._target.split)
        distance = mean_squared_distance(state, self._target.hidden)
        return distance, distance


def minimise(stage: SearchStage) -> Point:
    """Take all steps of a stage as a plain loop: what Lightning does with it, without Lightning.

    Args:
        stage: the stage, as it was made.

    Returns:
        The best point.
    """
    configured = stage.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    assert isinstance(optimizer, torch.optim.Optimizer) and isinstance(schedule, dict)
    for step in range(stage.spec.steps):
        optimizer.zero_grad()
        stage.training_step(None, step).backward()  # type: ignore[no-untyped-call]
        stage.isolate()
        optimizer.step()
        stage.settle()
        schedule["scheduler"].step()
    return stage.best_point()


def _parameter(value: Tensor, free: bool) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=free)
