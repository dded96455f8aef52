"""The search of a run, batch after batch, in one process or in several."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ilo_pl.callbacks.checkpoint import Checkpointing
from ilo_pl.callbacks.checkpoint_io import good, skip
from ilo_pl.callbacks.events import EventLog
from ilo_pl.callbacks.progress import StageProgress
from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.callbacks.stopwatch import Stopwatch
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import InputError, OutputError, Stopped, TrainerError
from ilo_pl.generators.precision import tf32
from ilo_pl.inversion.processes import Processes, orphaned
from ilo_pl.inversion.task import InverseTask
from ilo_pl.io.measurements import Origin
from ilo_pl.runs.batches import Remembering, usable
from ilo_pl.runs.behind import Finisher
from ilo_pl.runs.entry import Entry
from ilo_pl.runs.fit import BatchSearch
from ilo_pl.runs.frames import Predecessors
from ilo_pl.runs.ledger import Ledger
from ilo_pl.runs.place import Place
from ilo_pl.runs.trainer import make_logger, quiet_lightning
from ilo_pl.runs.writer import ResultWriter

CHECK_SECONDS = 1.0
# What torch, Lightning and the module raise for a checkpoint whose content is not what they wrote.
UNFIT = (
    InputError, TrainerError, ArithmeticError, AssertionError, AttributeError, LookupError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
_log = logging.getLogger(__name__)


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
    with StopSignals(orphaned) as stop, quiet_lightning(), tf32(config.trainer.tf32):
        try:
            logs = ledger.folder.inside("log")
            logger = None if place.rank else make_logger(config.logger, logs)
            one = _UnitSearch(config, problem, ledger, place, callbacks, stop, logger)
            _search(one, ledger, place, stop)
        except OSError as error:  # from within Lightning or a logger; what we write says more
            ledger.check_there()
            raise OutputError(f"{ledger.folder.path} could not be written: {error}.") from error


def _search(one: _UnitSearch, ledger: Ledger, place: Place, stop: StopSignals) -> None:
    """Search batches, with the other processes of this machine; none outlives this one."""
    others = place.others or Processes(1)
    pending = ledger.pending(place.rank, place.world, lambda: stop.received)
    try:
        if place.others is not None:
            others.start()
        for unit in pending:
            if unit is None:
                one.finisher.wait()
            else:
                one.run(unit)
        stop.raise_if_received()
        others.wait(lambda: stop.received)
        stop.raise_if_received()
        one.progress.fill()
    except BaseException:
        others.kill(signal.SIGTERM)
        others.wait()
        raise
    finally:
        one.finisher.close()
        pending.close()  # and with it the locks, which hold until all that was begun is finished
        one.progress.close()


class _FolderWatch(pl.Callback):
    """Ends a fit soon after the run folder was removed, or could not be written.

    Args:
        ledger: what is in it.
        finisher: what writes into it.
    """

    def __init__(self, ledger: Ledger, finisher: Finisher) -> None:
        self._ledger = ledger
        self._finisher = finisher
        self._looked = 0.0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look once a second, and before the results are written at the end of the last step."""
        last = batch_idx + 1 == trainer.num_training_batches
        if last or time.monotonic() - self._looked > CHECK_SECONDS:
            self._ledger.check_there()
            self._finisher.check()
            self._looked = time.monotonic()


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
        self._units = problem.task.units
        self._ledger = ledger
        self._stop = stop
        self._logger = logger
        self._searching = self._first = self._search_of(problem.task, place)
        self._next = self._search_of(problem.follower, place) if problem.follower else None
        self._watch = Stopwatch()
        self.finisher = Finisher(ledger)
        self._writer = ResultWriter(
            ledger.folder,
            config.generator,
            problem.origin,
            config.save_measurements,
            self.finisher.submit,
        )
        events = EventLog(ledger.folder.inside(f"log/events.rank{place.rank}.jsonl"), place.rank)
        self.progress = next(c for c in callbacks if isinstance(c, StageProgress))
        self._stride = place.world
        watch = _FolderWatch(ledger, self.finisher)
        self._callbacks = [watch, self._watch, events, self._writer, *callbacks]

    def run(self, unit: int) -> None:
        """Search a batch, from its checkpoint if it has one; it is finished beside the next one's search."""
        self._stop.raise_if_received()
        good_ones, failures = usable(self._task.source, self._units[unit])
        ids = tuple(self._task.source.ids[i] for i in self._units[unit])
        _log.info("batch %d begins: %s", unit, ", ".join(ids))
        faults: dict[str, int] = {}
        if failures and good_ones:
            self._task.source.load(good_ones)  # before others are read
        self._read_ahead(unit + self._stride)
        if good_ones:
            self._fit(unit, good_ones)
            faults = self._searching.faults
        seconds = {i: s for i, s in self._watch.seconds.items() if i in ids}
        failures |= self._writer.failures
        entry = Entry(ids, seconds, failures, faults, dict(self._writer.errors))
        self.finisher.finish(unit, entry, self._writer.written)
        self._forget()
        if self._next is not None:  # the next one starts from this one's files
            self.finisher.wait()

    def _read_ahead(self, unit: int) -> None:
        """Read a batch that is likely to be next, beside this one's search."""
        source, there = self._task.source, unit < len(self._units)
        if there and isinstance(source, Remembering) and not self._ledger.is_done(unit):
            source.ahead(self._units[unit])

    def _forget(self) -> None:
        self._watch.seconds.clear()
        self._writer.written.clear()
        self._writer.failures.clear()
        self._writer.errors.clear()

    def _fit(self, unit: int, indices: Sequence[int]) -> None:
        """Search from the last checkpoint that can be gone on from, or from the start."""
        for path in good(self._ledger.checkpoint(unit)):
            checkpointing = self._checkpointing(unit)
            try:
                self._fit_from(path, unit, indices, checkpointing)
            except UNFIT as error:
                if checkpointing.begun or isinstance(error, torch.cuda.OutOfMemoryError):
                    raise
                what = str(error).splitlines()[0] if str(error) else type(error).__name__
                skip(path, f"The checkpoint {path} does not fit: {what.rstrip('.')}.")
                self._forget()
            else:
                return
        self._fit_from(None, unit, indices, self._checkpointing(unit))

    def _checkpointing(self, unit: int) -> Checkpointing:
        config = self._config.trainer
        return Checkpointing(
            self._ledger.checkpoint(unit),
            steps=config.checkpoint_steps,
            minutes=config.checkpoint_minutes,
            stop=self._stop,
        )

    def _fit_from(
        self, path: Path | None, unit: int, indices: Sequence[int], checkpointing: Checkpointing
    ) -> None:
        origin = self._begin(unit)
        self.progress.place(self._ledger.done + self._ledger.begun - 1, len(self._units))
        callbacks = [*self._callbacks, checkpointing]
        _log.debug("batch %d goes on from %s", unit, path or "the start")
        try:
            self._searching.fit(indices, callbacks, logger=self._logger, path=path, origin=origin)
        except SIGTERMException:
            # Lightning's handler was set for a moment, before ours was set again.
            if not self._searching.ended:
                raise Stopped(signal.SIGTERM) from None

    def _search_of(self, task: InverseTask, place: Place) -> BatchSearch:
        return BatchSearch(task, self._config.trainer, self._config.compile, place.local)

    def _begin(self, unit: int) -> int:
        """Choose what searches a batch, and return how many steps there were before."""
        self._searching = self._first
        steps = self._task.schedule.total_steps
        if self._next is not None and unit:
            follower = self._next.module.task
            start = follower.start
            assert isinstance(start, Predecessors)
            if start.find(self._task.source.ids[self._units[unit][0]]):
                self._searching = self._next
                return steps + (unit - 1) * follower.schedule.total_steps
        return unit * steps
