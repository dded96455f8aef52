"""``ilo-pl invert engine=ray``: batches placed, retried and streamed by Ray Data."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.cluster.plan import FAILURES, Unit, begin, done, part, plan
from ilo_pl.cluster.tables import failures_table
from ilo_pl.cluster.worker import UnitSearch, lost_rows
from ilo_pl.config.engine import RayEngine
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.remote import Storage
from ilo_pl.operators.config import ClassifierSpec

# More would be objects of Ray's that hold nothing but a few names.
MOST_BLOCKS = 10_000
SUMMARY = "summary.json"
STARTS = 4


@dataclass
class Summary:
    """What a run, or one part of it between two stops, has done; ``summary.json``.

    Args:
        images: searched, with those that failed.
        failed: that have no result.
        before: images of batches that were done when it began.
        seconds: since the first batch began, on the wall.
        busy: seconds of all workers within batches.
        read, searched, written: the parts of that.
        bytes_in, bytes_out: of images read and results written.
        workers: the most that were at work.
        unfinished: why batches could not be done, by number.
    """

    images: int = 0
    failed: int = 0
    before: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    read: float = 0.0
    searched: float = 0.0
    written: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    workers: int = 0
    unfinished: dict[int, str] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """Count a batch that has ended."""
        if row["problem"]:
            self.unfinished[int(row["unit"])] = str(row["problem"])
            return
        for name in ("images", "failed", "bytes_in", "bytes_out"):
            setattr(self, name, getattr(self, name) + int(row[name]))
        for name in ("read", "searched", "written"):
            setattr(self, name, getattr(self, name) + float(row[name]))
        self.busy = self.read + self.searched + self.written

    @property
    def complete(self) -> bool:
        """Whether every image has a result."""
        return not (self.failed or self.unfinished)

    def lines(self, output: str) -> list[str]:
        """Return what there is to say of it."""
        text = f"{self.before + self.images - self.failed} images are in {output}/results"
        if self.images:
            text += f"; {self.images} by {self.workers} workers in {self.seconds:.0f} s"
        said = [f"{text}."]
        if not self.complete:
            left = f", {len(self.unfinished)} batches unfinished" if self.unfinished else ""
            said.append(
                f"Some images could not be used ({self.failed}{left}): see {output}/failures"
            )
        return said


def run_ray(config: RunConfig, console: Console) -> Summary:
    """Search every image of the input that the output has no result of.

    Args:
        config: the run; its engine is Ray's.
        console: where progress is drawn.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
        Stopped: a signal ended the run; what is written is written, and resume=true goes on.
    """
    config = _checked(config)
    assert isinstance(config.engine, RayEngine)
    units = plan(config)
    output = Storage(config.output)
    ready = begin(config, output, units)
    left = [unit for unit in units if unit.number not in ready]
    summary = Summary(before=sum(len(u.items) for u in units if u.number in ready))
    if left:
        total = sum(len(unit.items) for unit in units)
        with _ray(config.engine) as ray, StopSignals() as stop, _bar(console) as bar:
            task = bar.add_task(
                "images", total=total, completed=summary.before, speed="starting workers"
            )
            for row in _stream(ray, config, left, summary):
                summary.add(row)
                speed = f"{summary.images / max(summary.seconds, 1e-9):.2f} images/s"
                bar.update(task, completed=summary.before + summary.images, speed=speed)
                stop.raise_if_received()
        _account_for_lost(output, left, summary)
    output.write(SUMMARY, json.dumps(asdict(summary)).encode())
    return summary


def _stream(
    ray: Any, config: RunConfig, left: Sequence[Unit], summary: Summary
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch as it ends; a batch whose workers die again and again has none."""
    engine = config.engine
    assert isinstance(engine, RayEngine)
    have = ray.cluster_resources()
    gpus = engine.gpus if engine.gpus != "auto" else float(have.get("GPU", 0) >= 1)
    workers = _workers(engine, have, gpus, len(left))
    summary.workers = workers
    dataset = ray.data.from_items(
        [unit.row() for unit in left], override_num_blocks=min(len(left), MOST_BLOCKS)
    ).map_batches(
        UnitSearch,
        fn_constructor_args=(config.model_dump(mode="json"),),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
        ),
        num_cpus=engine.cpus,
        num_gpus=gpus,
        # Workers that died are started again, however often; that is Ray Data's default.
        ray_remote_args_fn=lambda: {"max_task_retries": engine.retries},
    )
    first = 0.0
    for row in dataset.iter_rows():
        first = min(first or row["began"], row["began"])
        summary.seconds = time.time() - first
        yield row


def _workers(engine: RayEngine, have: dict[str, float], gpus: float, batches: int) -> int:
    """Return how many workers there are to be.

    Raises:
        ConfigurationError: the cluster has not what one of them needs.
    """
    room = int(have.get("CPU", 0) / engine.cpus)
    if gpus:
        room = min(room, int(have.get("GPU", 0) / gpus))
    if room < 1:
        raise ConfigurationError(
            f"A worker needs engine.cpus = {engine.cpus:g} and engine.gpus = {gpus:g}; the cluster has "
            f"{have.get('CPU', 0):g} cores and {have.get('GPU', 0):g} GPUs.",
            hint="Ask for less, or start the cluster on more machines.",
        )
    return min(batches, room if engine.workers == "auto" else min(engine.workers, room))


def _account_for_lost(output: Storage, left: Sequence[Unit], summary: Summary) -> None:
    """Write into the table of failures which batches no worker could finish; resume=true tries them again."""
    there = done(output)
    for unit in left:
        if unit.number in there:
            summary.unfinished.pop(unit.number, None)
            continue
        why = summary.unfinished.setdefault(
            unit.number, "its worker died each time it was searched"
        )
        output.write(f"{FAILURES}/{part(unit.number)}", failures_table(list(lost_rows(unit, why))))


def _checked(config: RunConfig) -> RunConfig:
    """Return the run with its number of images in a batch; refuse what only a run folder has."""
    wrong = {
        "animation=true": config.animation,
        f"follow={config.follow.name}": config.ordered,
        f"task={config.task.name}": isinstance(config.operator, ClassifierSpec),
        f"trainer.devices={config.trainer.devices}": config.trainer.devices not in ("auto", 1),
        "allow_changes=true": config.allow_changes,
        "batch_size=auto": config.batch_size == "auto",
    }
    bad = [key for key, applies in wrong.items() if applies]
    if bad:
        raise ConfigurationError(
            f"{bad[0]} does not go with engine=ray.",
            hint="Which images form a batch must not depend on a worker: give batch_size a number."
            if "batch_size" in bad[0]
            else "Leave it out, or use engine=plain.",
        )
    _imported()
    # What cannot be made here cannot be made by any worker.
    generator = config.generator.make(imports=True)
    assert not isinstance(config.operator, ClassifierSpec)
    config.operator.maker(generator.image_shape, config.seed)
    if config.outside:
        config.outside.require()
    return config


@contextmanager
def _ray(engine: RayEngine) -> Iterator[Any]:
    """Yield Ray, with a cluster that ends behind this if it was started by this.

    Raises:
        ConfigurationError: it is not installed, or the cluster cannot be reached.
    """
    ray = _imported()
    own = not ray.is_initialized()
    if own:
        _start(ray, engine.address)
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.max_errored_blocks
    # A batch that kills every worker is left out; the others are done.
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield ray
    finally:
        context.enable_progress_bars, context.max_errored_blocks = before
        if own:
            ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    """Start a cluster of this machine, or join a running one.

    Raises:
        ConfigurationError: it cannot be reached.
    """
    for turn in range(STARTS):
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address is None else None,
            )
            return
        except Exception as error:  # it raises nearly anything
            ray.shutdown()
            # Its processes have 30 s to start, which a busy machine may not keep.
            if turn + 1 == STARTS or "timed out during startup" not in str(error):
                raise ConfigurationError(
                    f"The cluster {address or 'of this machine'} cannot be reached: {error}.",
                    hint="engine.address=null starts one on this machine.",
                ) from error


def _imported() -> Any:
    # What its own processes say of themselves, such as that a worker died, is said by the summary.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigurationError(
            f"engine=ray needs Ray Data, which cannot be imported: {error}.",
            hint='Run pip install "ilo_pl[ray]".',
        ) from error
    return ray


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
    )
