"""The search of a run, batch after batch, in one process or in several."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ilo_pl.callbacks.checkpoint import Checkpointing
from ilo_pl.callbacks.checkpoint_io import last_good
from ilo_pl.callbacks.events import EventLog
from ilo_pl.callbacks.progress import StageProgress
from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.callbacks.stopwatch import Stopwatch
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, Stopped
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.strategy import ILOLauncher, ILOStrategy, parent
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.measurements import Origin
from ilo_pl.runs.frames import Predecessors
from ilo_pl.runs.ledger import Entry, Ledger
from ilo_pl.runs.sources import usable
from ilo_pl.runs.trainer import device_count, make_logger, make_trainer, quiet_lightning
from ilo_pl.runs.writer import ResultWriter


@dataclass(frozen=True)
class Problem:
    """What a run inverts.

    Args:
        task: the inverse problem.
        origin: how its measurements were made.
        follower: the same problem for images that start from the one before.
    """

    task: InverseTask
    origin: Origin
    follower: InverseTask | None = None


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Args:
        rank: its number.
        world: how many there are.
        launcher: what starts the others, if this process is to.
    """

    rank: int = 0
    world: int = 1
    launcher: ILOLauncher | None = None


def with_devices(config: RunConfig, images: int, launch: bool) -> RunConfig:
    """Return the run with its number of devices."""
    size = 1 if config.batch_size == "auto" else config.batch_size
    batches = math.ceil(images / size)
    auto = config.trainer.devices == "auto"
    count = device_count(config.trainer, batches) if launch and not config.outside else 1
    trainer = config.trainer.model_copy(update={"devices": count})
    return config.model_copy(update={"trainer": trainer}) if auto else config


def make_place(config: RunConfig, launch: bool) -> Place:
    """Return the place of this process; the environment of torchrun or SLURM is understood.

    Raises:
        ConfigurationError: there are no such devices, or several where the command cannot be started again.
    """
    devices = config.trainer.devices
    assert devices != "auto"
    several = devices * config.trainer.num_nodes > 1
    if several and (config.outside or config.ordered or not launch):
        raise ConfigurationError(
            f"trainer.devices = {devices}, trainer.num_nodes = {config.trainer.num_nodes}: "
            "only the engine's methods run on several, by ilo-pl invert, and only with follow=none.",
            hint="Leave both at 1.",
        )
    if config.outside:
        return Place()
    with quiet_lightning():
        make_logger(config.logger, Path(config.output) / "log")
        strategy = make_trainer(config.trainer, []).strategy
    if not several:
        return Place()
    assert isinstance(strategy, ILOStrategy)
    launcher = strategy.launcher
    assert launcher is None or isinstance(launcher, ILOLauncher)
    return Place(strategy.global_rank, strategy.world_size, launcher)


def search(
    config: RunConfig,
    problem: Problem,
    ledger: Ledger,
    place: Place,
    callbacks: Sequence[pl.Callback],
) -> None:
    """Search every batch of images that no process has; the first process returns when all are done.

    Args:
        config: the run.
        problem: what it inverts.
        ledger: which batches are done.
        place: which process this is.
        callbacks: for the Trainers.

    Raises:
        OutputError: results cannot be written.
        Stopped: a signal ended the search; the state is on the disk.
    """
    with StopSignals() as stop, quiet_lightning():
        logger = make_logger(config.logger, ledger.folder.inside("log")) if not place.rank else None
        one = _UnitSearch(config, problem, ledger, place, callbacks, stop, logger)
        try:
            if place.launcher is not None:
                place.launcher.start()
            for unit in ledger.pending(place.rank, place.world):
                one.run(unit)
            if stop.received:
                raise Stopped(stop.received)
            if place.launcher is not None:
                place.launcher.wait()
        except BaseException as error:
            if place.launcher is not None:
                place.launcher.kill(signal.SIGTERM)
                place.launcher.wait()
            if isinstance(error, SIGTERMException):
                raise Stopped(signal.SIGTERM) from None
            raise
        finally:
            one.progress.close()


class _UnitSearch:
    """Searches one batch after the other, each by a fit of its own: so nothing of one outlives it."""

    def __init__(
        self,
        config: RunConfig,
        problem: Problem,
        ledger: Ledger,
        place: Place,
        callbacks: Sequence[pl.Callback],
        stop: StopSignals,
        logger: Logger | None,
    ) -> None:
        self._config = config
        self._task = problem.task
        self._ledger = ledger
        self._stop = stop
        self._logger = logger
        self._module = self._first = self._invert(problem.task)
        self._next = self._invert(problem.follower) if problem.follower else None
        self._watch = Stopwatch()
        writer = ResultWriter(
            ledger.folder, config.generator, problem.origin, config.save_measurements
        )
        events = EventLog(ledger.folder.inside(f"log/events.rank{place.rank}.jsonl"), place.rank)
        self.progress = next(c for c in callbacks if isinstance(c, StageProgress))
        self._callbacks = [self._watch, events, writer, *callbacks]

    def run(self, unit: int) -> None:
        """Search a batch, from its checkpoint if it has one, and note that it is done."""
        if self._stop.received:
            raise Stopped(self._stop.received)
        good, failures = usable(self._task.source, self._task.units[unit])
        ids = tuple(self._task.source.ids[i] for i in self._task.units[unit])
        faults: dict[str, int] = {}
        if good:
            self._fit(unit, good)
            faults = self._faults()
        seconds = {i: s for i, s in self._watch.seconds.items() if i in ids}
        self._watch.seconds.clear()
        self._ledger.finish(unit, Entry(ids, seconds, failures, faults))

    def _fit(self, unit: int, good: Sequence[int]) -> None:
        module, config = self._begin(unit), self._config.trainer
        module.units = (tuple(good),)
        self.progress.place(self._ledger.done, len(self._task.units))
        path = self._ledger.checkpoint(unit)
        checkpointing = Checkpointing(
            path,
            steps=config.checkpoint_steps,
            minutes=config.checkpoint_minutes,
            stop=self._stop,
            parent=parent(),
        )
        trainer = make_trainer(config, [*self._callbacks, checkpointing], self._logger)
        trainer.fit(module, ckpt_path=last_good(path))
        # Trainers are reference cycles: what this one has would stay until Python looks for those.
        trainer.strategy.optimizers = []
        trainer.strategy.lr_scheduler_configs = []

    def _invert(self, task: InverseTask) -> ILOInversion:
        return ILOInversion(task, compile=self._config.compile, keep_results=False)

    def _begin(self, unit: int) -> ILOInversion:
        """Choose the module that searches a batch, and tell it how many steps there were before."""
        self._module = self._first
        steps = self._task.schedule.total_steps
        self._first.origin = unit * steps
        follower = self._next
        if follower is not None and unit:
            start = follower.task.start
            assert isinstance(start, Predecessors)
            if start.find(self._task.source.ids[self._task.units[unit][0]]):
                self._module = follower
                follower.origin = steps + (unit - 1) * follower.task.schedule.total_steps
        return self._module

    def _faults(self) -> dict[str, int]:
        walk = self._module.walk
        counts = {
            image_id: sum(int(r.faults[i]) for r in walk.records if r.faults is not None)
            for i, image_id in enumerate(walk.batch.ids)
        }
        return {image_id: count for image_id, count in counts.items() if count}
