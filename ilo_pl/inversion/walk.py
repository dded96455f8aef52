"""A batch of images on its way through Algorithm 1, one gradient step at a time.

The algorithm itself is :mod:`ilo_pl.inversion.algorithm`. Here each of its minimisations becomes a stage, a
LightningModule; what it found is recorded and sent back. Nothing here knows of Trainers:
:class:`~ilo_pl.inversion.stage_switch.StageSwitch` says when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ilo_pl.generators.point import Point, render
from ilo_pl.inversion.algorithm import Entry, ExtendedRange, Search, intermediate_layer_optimization
from ilo_pl.inversion.identity import fingerprint
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.proximal import ProximalStage
from ilo_pl.inversion.reconstruction import Reconstruction, Solution, StageRecord, better
from ilo_pl.inversion.resume import FORMAT
from ilo_pl.inversion.returned import returned, samples_returned
from ilo_pl.inversion.sampling import SamplingStage
from ilo_pl.inversion.schedule import Phase
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine, ILOStage, ReencodeStage, SearchStage
from ilo_pl.inversion.stage_spec import Stage
from ilo_pl.inversion.start import first_point
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.images import to_bytes


class Walk:
    """Progress of one batch of images.

    Args:
        task: the inverse problem.
        batch: the measurements of these images, on the device of the search.
        engine: the frozen parts.

    Attributes:
        phase: index of the phase being run.
        search: the minimisation that it is.
        stage: the module that runs it.
        records: how the solves so far ended.
        kept: the result of each image so far.
    """

    def __init__(self, task: InverseTask, batch: Batch, engine: Engine) -> None:
        self.task = task
        self.batch = batch
        self.engine = engine
        self.phases = task.schedule.phases
        self.records: list[StageRecord] = []
        self.kept: list[Solution] = []
        self._judge = self._objective(task.schedule.stages[-1])
        point = first_point(task, batch, engine)
        self._enter(0, Entry(0, point, point))

    def _enter(self, phase: int, entry: Entry) -> None:
        """Begin the algorithm at a stage, whose first phase it is."""
        self.phase = phase
        self._found: list[Point] = []
        self._algorithm = intermediate_layer_optimization(
            self.engine.generator, self.task.schedule, entry
        )
        self.search = next(self._algorithm)
        self.stage: SearchStage = self._stage_of(self.search)

    @cached_property
    def identity(self) -> dict[str, str]:
        """What this search belongs to, by content, for checkpoints."""
        return fingerprint(self.batch, self.task)

    @property
    def spec(self) -> Stage:
        """The specification of the stage being run."""
        return self.task.schedule.stages[self.now.stage]

    @property
    def now(self) -> Phase:
        """The phase being run."""
        return self.phases[self.phase]

    @property
    def searches(self) -> bool:
        """Whether the phase being run looks for one answer to each image: it neither re-encodes nor samples."""
        return self.now.kind == "solve" and self.spec.solver != "sampling"

    def advance(self) -> bool:
        """End the current phase and set up the next one that has steps.

        Returns:
            Whether there is one; ``False`` when the walk is over and :attr:`kept` is final.
        """
        while True:
            ended = self.now
            if ended.kind == "solve":
                self._record()
            if not self._send(self._handed_over()):
                return False
            if ended.kind == "reencode":
                assert self.search.cost is not None
                self.records[-1] = replace(self.records[-1], reencoding=self.search.cost.cpu())
            self.stage = self._stage_of(self.search)
            if self.now.steps > 0:
                return True

    def _handed_over(self) -> Point:
        """Return what the algorithm is told of a search that has ended."""
        if self.now.kind == "solve" and self.task.schedule.hand_over == "last":
            return self.stage.point().detach()
        return self.stage.best_point()

    def _send(self, found: Point) -> bool:
        """Send a solution to the algorithm; return whether it asks for another."""
        try:
            search = self._algorithm.send(found)
        except StopIteration:
            return False
        self._found = [*self._found, found] if search.entry is self.search.entry else []
        self.search = search
        self.phase += 1
        return True

    def _record(self) -> None:
        """Record how a solve ended, and keep it for the images whose result it is."""
        now, point, schedule = self.now, self.stage.best_point(), self.task.schedule
        final = now.stage + 1 == len(schedule.stages) or schedule.result == "best"
        generator, space = self.engine.generator, self.engine.space
        singles = [point.select(i) for i in range(len(self.batch.ids))]
        # What may be returned is rendered alone, as its latents will render it: batches round otherwise.
        images = (
            torch.cat([render(generator, single, space) for single in singles])
            if final
            else render(generator, point, space)
        )
        with torch.no_grad():
            loss = self._judge(images, point.latents)[0].cpu()
        faults = self.stage.faults.cpu().clone()
        self.records.append(
            StageRecord(
                now.stage, now.round, point.split, to_bytes(images).cpu(), loss, faults=faults
            )
        )
        if final:
            found = [
                Solution(now.stage, single, float(value), image.cpu())
                for single, value, image in zip(singles, loss, images, strict=True)
            ]
            kept = self.kept or found
            self.kept = [
                better(new, old, schedule.result) for new, old in zip(found, kept, strict=True)
            ]

    def results(self) -> Iterator[Reconstruction]:
        """Yield what was found for each image, once the walk is over."""
        batch, space = self.batch, self.engine.space
        pictures = batch.operator.picture(batch.measurements)
        for i, (image_id, kept) in enumerate(zip(batch.ids, self.kept, strict=True)):
            point, image, errors = returned(self.task, self.engine, batch, i, kept)
            drawn = self.stage.posterior(i) if isinstance(self.stage, SamplingStage) else None
            yield Reconstruction(
                id=image_id,
                image=image.cpu(),
                measurements=batch.measurements[i].cpu(),
                picture=None if pictures is None else pictures[i].cpu(),
                point=point.map(lambda t: t.cpu()),
                space=space,
                loss=kept.loss,
                stages=tuple(record.select(i) for record in self.records),
                measured_error=errors,
                posterior=drawn and samples_returned(self.task, batch, i, drawn),
            )

    def _stage_of(self, search: Search) -> SearchStage:
        if search.target is None and search.spec.solver == "sampling":
            noise = self.task.noise_sigma or 0.0
            inputs = search.start, search.front, self.batch, noise, self.task.seed
            return SamplingStage(self.engine, search.spec, *inputs)
        if search.target is None and search.spec.solver == "proximal":
            objective = self._objective(search.spec)
            noise = self.task.noise_sigma or 0.0
            return ProximalStage(self.engine, search.spec, search.start, objective, noise)
        if search.target is None:
            schedule = self.task.schedule
            fixed = () if schedule.carry_skip else self.engine.generator.skip_states
            objective = self._objective(search.spec)
            return ILOStage(self.engine, search.spec, search.start, objective, search.centre, fixed)
        return ReencodeStage(self.engine, search.spec, search.start, search.centre, search.target)

    def _objective(self, spec: Stage) -> Objective:
        task = self.task
        return Objective(
            self.batch,
            spec.losses,
            noise=task.noise_of(spec),
            validation=task.schedule.validation,
            judge=task.schedule.judge,
            seed=task.seed,
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the stage's own tensors: primitives and tensors."""
        entry = self.search.entry
        known = entry.range
        return {
            "format": FORMAT,
            "phase": self.phase,
            "records": [asdict(record) for record in self.records],
            "kept": [(k.stage, _pack(k.point), k.loss) for k in self.kept],
            "entry": (entry.stage, _pack(entry.point), _pack(entry.centre)),
            "range": known and (known.spec.model_dump(), _pack(known.point), _pack(known.centre)),
            "found": [_pack(point) for point in self._found],
        }

    def restore(self, state: Mapping[str, Any], stage: Mapping[str, Tensor]) -> None:
        """Take up a walk where :meth:`state` left it.

        The algorithm is begun at the stage that was being run and told again what was found since.

        Args:
            state: what :meth:`state` returned.
            stage: the state dictionary of the stage that was running.
        """
        device = self.batch.measurements.device

        def unpack(packed: tuple[int, dict[str, Tensor]]) -> Point:
            return Point.from_named(packed[0], packed[1]).map(lambda t: t.to(device))

        known = state["range"] and ExtendedRange(
            Stage(**state["range"][0]), *map(unpack, state["range"][1:])
        )
        number, point, centre = state["entry"]
        self.records = [StageRecord(**record) for record in state["records"]]
        self.kept = [Solution(k, unpack(point), loss) for k, point, loss in state["kept"]]
        first = state["phase"] - len(state["found"])
        self._enter(first, Entry(number, unpack(point), unpack(centre), known))
        for packed in state["found"]:
            self._send(unpack(packed))
        kind = "solve" if self.search.target is None else "reencode"
        if (self.now.kind, self.now.stage) != (kind, self.search.entry.stage):
            raise ValueError(f"phase {self.phase} is not one of stage {number}")
        self.stage = self._stage_of(self.search)
        self.stage.load_state_dict(dict(stage))


def _pack(point: Point) -> tuple[int, dict[str, Tensor]]:
    return point.split, {name: value.detach().cpu() for name, value in point.named()}
