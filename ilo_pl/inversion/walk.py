"""The walk of a batch of images through a schedule: what Algorithm 1 does between gradient steps.

It knows nothing of Trainers; :class:`~ilo_pl.inversion.stage_switch.StageSwitch` says when.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ilo_pl.generators.point import Point, carry, mean_squared_distance, render
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.schedule import Stage
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine, ILOStage, ReencodeStage, SearchStage
from ilo_pl.inversion.start import first_point, free_noises
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.images import to_bytes


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
class Kept:
    """The result of one image so far: tensors of a batch of one, and its measurement loss."""

    stage: int
    point: Point
    loss: float


@dataclass(frozen=True)
class Anchor:
    """A solved stage that a later split is re-encoded through: its solution and its ball's centre."""

    point: Point
    centre: Point


class Walk:
    """Progress of one batch of images.

    Args:
        task: the inverse problem.
        batch: the measurements of these images, on the device of the search.
        engine: the frozen parts.

    Attributes:
        phase: index of the phase being run.
        stage: the module that runs it.
        records: how the solves so far ended.
        kept: the result of each image so far.
    """

    def __init__(self, task: InverseTask, batch: Batch, engine: Engine) -> None:
        self.task = task
        self.batch = batch
        self.engine = engine
        self.phases = task.schedule.phases
        self.phase = 0
        self.records: list[StageRecord] = []
        self.kept: list[Kept] = []
        self._anchor: Anchor | None = None
        self._solution: Point | None = None
        self._judge = self._objective(task.schedule.stages[-1])
        self.stage: SearchStage = self._solve_stage(
            self._free_noises(first_point(task, batch, engine))
        )

    @property
    def spec(self) -> Stage:
        """The specification of the stage being run."""
        return self.task.schedule.stages[self.phases[self.phase].stage]

    def advance(self) -> bool:
        """End the current phase and set up the next one that has steps.

        Returns:
            Whether there is one; ``False`` when the walk is over and :attr:`kept` is final.
        """
        while True:
            point, centre = self._end_solve() if self._solving else self._end_reencode()
            if self.phase + 1 == len(self.phases):
                return False
            ended = self.phases[self.phase]
            self.phase += 1
            now = self.phases[self.phase]
            if now.kind == "reencode":
                self.stage = self._reencode_stage(point)
            elif now.stage == ended.stage:
                self.stage = self._solve_stage(point, centre)
            else:
                self._anchor = Anchor(point, centre)
                self.stage = self._solve_stage(self._free_noises(self._carry(point)))
            if now.steps > 0:
                return True

    @property
    def _solving(self) -> bool:
        return self.phases[self.phase].kind == "solve"

    def _end_solve(self) -> tuple[Point, Point]:
        """Record the stage's best point; return it and the centre of its balls."""
        point = self.stage.best_point()
        self._solution = point
        image = render(self.engine.generator, point, self.engine.space)
        with torch.no_grad():
            loss = self._judge(image, point.latents)[0]
        phase = self.phases[self.phase]
        faults = self.stage.guard.faults.cpu().clone()
        pictures = to_bytes(image).cpu()
        self.records.append(
            StageRecord(phase.stage, phase.round, point.split, pictures, loss.cpu(), faults=faults)
        )
        self._keep(phase.stage, point, loss)
        return point, self.stage.centre.point()

    def _keep(self, stage: int, point: Point, loss: Tensor) -> None:
        single = [
            Kept(stage, point.map(lambda t, i=i: t[i : i + 1]).detach(), float(value))  # type: ignore[misc]
            for i, value in enumerate(loss)
        ]
        if not self.kept:
            self.kept = single
        last = self.task.schedule.result == "last"
        for i, (new, old) in enumerate(zip(single, self.kept, strict=True)):
            if (last and new.stage > old.stage) or new.loss < old.loss:
                self.kept[i] = new

    def _end_reencode(self) -> tuple[Point, Point]:
        """Replace the solution by its re-encoding, line 6 of Algorithm 1: hidden' = G1(z').

        Returns:
            The re-encoded point, which is the centre of the balls of what follows.
        """
        assert isinstance(self.stage, ReencodeStage)
        assert self._solution is not None and self._anchor is not None
        best = self.stage.best_point()
        with torch.no_grad():
            hidden = self.stage.encoded(best)
            distance = mean_squared_distance(hidden, self._solution.hidden).sqrt().cpu()
        self.records[-1] = replace(self.records[-1], reencoding=distance)
        self._anchor = replace(self._anchor, point=_merge(self._anchor.point, best))
        point = replace(self._solution, hidden=hidden)
        return point, point

    def _solve_stage(self, start: Point, centre: Point | None = None) -> ILOStage:
        fixed = () if self.task.schedule.carry_skip else self.engine.generator.skip_states
        return ILOStage(self.engine, self.spec, start, self._objective(self.spec), centre, fixed)

    def _objective(self, spec: Stage) -> Objective:
        task = self.task
        return Objective(
            self.batch,
            spec.losses,
            noise=task.noise_of(spec),
            validation=task.schedule.validation,
            seed=task.seed,
        )

    def _carry(self, point: Point) -> Point:
        """Express a solution at the split of the stage that follows."""
        start = carry(self.engine.generator, point, self.engine.space, self.spec.split)
        if self.task.schedule.carry_skip or start.split == point.split:
            return start
        skips = self.engine.generator.skip_states
        hidden = {n: torch.zeros_like(h) if n in skips else h for n, h in start.hidden.items()}
        return replace(start, hidden=hidden)

    def _reencode_stage(self, point: Point) -> ReencodeStage:
        assert self._anchor is not None
        spec = self.spec
        before = self.task.schedule.stages[self.phases[self.phase].stage - 1]
        return ReencodeStage(
            self.engine,
            before.model_copy(update={"lr": spec.reencode.lr}),
            self._segment(self._anchor.point, spec.split),
            self._segment(self._anchor.centre, spec.split),
            point.hidden,
            spec.split,
            steps=spec.reencode.steps,
        )

    def _segment(self, point: Point, stop: int) -> Point:
        """Return the part of a point's variables that matters before split ``stop``."""
        here, there = (self.engine.generator.splits[k] for k in (point.split, stop))
        latents = point.latents
        if latents.shape[1] > 1:
            latents = latents[:, : there.first_slot - here.first_slot]
        noises = {i: n for i, n in point.noises.items() if i < there.first_noise}
        return Point(point.split, point.hidden, latents, noises)

    def _free_noises(self, point: Point) -> Point:
        return free_noises(self.engine.generator, point, self.spec.free_noises)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the stage's own tensors: primitives and tensors."""
        return {
            "phase": self.phase,
            "records": [asdict(record) for record in self.records],
            "kept": [(k.stage, _pack(k.point), k.loss) for k in self.kept],
            "anchor": self._anchor and (_pack(self._anchor.point), _pack(self._anchor.centre)),
            "solution": self._solution and _pack(self._solution),
        }

    def restore(self, state: dict[str, Any], stage: dict[str, Tensor]) -> None:
        """Take up a walk where :meth:`state` left it.

        Args:
            state: what :meth:`state` returned.
            stage: the state dictionary of the stage that was running.
        """
        device = self.batch.measurements.device

        def unpack(packed: tuple[int, dict[str, Tensor]]) -> Point:
            return Point.from_named(packed[0], packed[1]).map(lambda t: t.to(device))

        self.phase = state["phase"]
        self.records = [StageRecord(**record) for record in state["records"]]
        self.kept = [Kept(number, unpack(point), loss) for number, point, loss in state["kept"]]
        self._solution = state["solution"] and unpack(state["solution"])
        self._anchor = state["anchor"] and Anchor(*map(unpack, state["anchor"]))
        names = [n for n in stage if n.startswith(("hidden.", "latents", "noises."))]
        tensors = {name: stage[name].to(device) for name in names}
        if self._solving:
            point = Point.from_named(self.spec.split, tensors)
            self.stage = self._solve_stage(point)
        else:
            assert self._solution is not None
            self.stage = self._reencode_stage(self._solution)
        self.stage.load_state_dict(stage)


def _pack(point: Point) -> tuple[int, dict[str, Tensor]]:
    return point.split, {name: value.detach().cpu() for name, value in point.named()}


def _merge(whole: Point, part: Point) -> Point:
    """Return ``whole`` with the variables of ``part``, its leading slots and noises, replaced."""
    latents = part.latents
    if whole.latents.shape[1] > latents.shape[1]:
        latents = torch.cat([latents, whole.latents[:, latents.shape[1] :]], 1)
    return Point(whole.split, part.hidden, latents, {**whole.noises, **part.noises})
