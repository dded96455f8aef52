"""What a run folder knows of its own run: what it is, which images are done, who is at which.

    state/run.json                   the configuration, the ids of all images, and what its files hold
    state/units/00007.json           this batch of images is done; its results were written before it
    state/checkpoints/00007.ckpt     where its search is
    state/locks                      byte n is locked by the process that searches batch n

A lock ends with its process, however that ends, so no batch is ever lost, and none is searched twice.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from ilo_pl.config.differences import anchored
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, OutputError
from ilo_pl.inversion.processes import orphaned
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table
from ilo_pl.runs.entry import Entry
from ilo_pl.runs.locks import Locks
from ilo_pl.runs.record import NAME, RunRecord

FAILURES = "failures.csv"
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600
_log = logging.getLogger(__name__)


class Ledger:
    """The state of a run.

    Args:
        folder: the run folder.
        units: ids of the images of each batch; their composition depends on nothing but the run.
        files: the files that the run belongs to; see :func:`~ilo_pl.runs.content.belongings`.
        told: is given a line about each batch whose results are made again.
        each: is given each batch that this process finishes.
    """

    def __init__(
        self,
        folder: RunFolder,
        units: Sequence[tuple[str, ...]],
        files: Mapping[str, Path] | None = None,
        told: Callable[[str], object] = _log.warning,
        each: Callable[[Entry], object] | None = None,
    ) -> None:
        self.folder = folder
        self._units = tuple(units)
        self._files = dict(files or {})
        self._told = told
        self._each = each
        self._entries: dict[int, Entry] = {}
        self._locks = Locks(folder.inside("state/locks"))
        self._begun: set[int] = set()

    # ---- what the run is ---------------------------------------------------------------------------

    def begin(self, config: RunConfig) -> None:
        """Make the folder, or take up the run in it; the first process does this.

        With ``allow_changes``, a run that is another than it was searches what it had not finished from
        the start.

        Raises:
            ConfigurationError: the run in the folder has another configuration, or other images.
            OutputError: the folder holds something else, or cannot be written.
        """
        config = anchored(config)
        if not (self.folder.path / NAME).exists():
            _check_fresh(self.folder)
        record, same = self._take_up(config)
        if not same:
            shutil.rmtree(self.checkpoint(0).parent, ignore_errors=True)
        record.write(self.folder)
        text = OmegaConf.to_yaml(OmegaConf.create(config.model_dump()))
        self.folder.write_text("config.yaml", text)

    def join(self, config: RunConfig) -> None:
        """Wait until the first process has begun the run; the others do this.

        Raises:
            ConfigurationError: it is another run.
            OutputError: it does not begin.
        """
        await_run(self.folder)
        if not config.allow_changes:
            self._take_up(config)

    def _take_up(self, config: RunConfig) -> tuple[RunRecord, bool]:
        """Return what the run is from now on, and whether it is what it was; refuse what may not go on."""
        before = None
        try:
            before = RunRecord.read(self.folder)
        except ConfigurationError:
            if not config.allow_changes:
                raise
        ids = [image_id for unit in self._units for image_id in unit]
        now = RunRecord.now(config, ids, self._files, before)
        changed = before.changes(now, self._files) if before is not None else []
        if changed and not config.allow_changes:
            raise ConfigurationError(
                f"The run in {self.folder.path} was begun otherwise: {'; '.join(changed)}.",
                hint="Resume with what it was begun with, give another output=..., or pass "
                "allow_changes=true: batches that are done stay as they are.",
            )
        return now, before is not None and not changed

    def check_there(self) -> None:
        """Find out whether the folder is still there.

        Raises:
            OutputError: somebody has removed it; nothing is to be made anew in its place.
        """
        if not (self.folder.path / NAME).exists():
            raise OutputError(
                f"The output folder {self.folder.path} was removed, or its {NAME}, while the run went on.",
                hint="What was in it is lost; start the run again.",
            )

    # ---- what is done ------------------------------------------------------------------------------

    def pending(
        self, rank: int = 0, world: int = 1, stopped: Callable[[], object] = lambda: False
    ) -> Generator[int | None, None, None]:
        """Yield batches to search, each locked until it is finished, or ``None``: finish what was begun.

        The own share comes first, then what others have not begun. The first process looks first at what
        is done, and goes on until every batch is, also those of a process that was killed; the others end
        when all that is left is being searched. All end when ``stopped`` returns something true.
        """
        if rank == 0:
            self._find_damage()
        own = range(rank, len(self._units), world)
        order = [*own, *(u for u in range(len(self._units)) if u not in own)]
        try:
            while order := [u for u in order if not self.is_done(u)]:
                worked = False
                for unit in order:
                    if self._begin(unit, alone=world == 1):
                        worked = True
                        yield unit
                if worked:
                    continue
                if self._begun:
                    yield None
                elif rank > 0 or stopped():
                    return
                else:
                    self.check_there()
                    time.sleep(POLL_SECONDS)
        finally:
            for unit in tuple(self._begun):
                self._leave(unit)

    def _begin(self, unit: int, *, alone: bool) -> bool:
        """Lock a batch that is neither begun nor done, and return whether that was possible."""
        if unit in self._begun or self.is_done(unit) or not self._locks.take(unit, alone=alone):
            return False
        if self.is_done(unit):
            self._locks.release(unit)
            return False
        self._begun.add(unit)
        return True

    def _leave(self, unit: int) -> None:
        self._begun.discard(unit)
        self._locks.release(unit)

    def is_done(self, unit: int) -> bool:
        """Return whether a batch's results are on the disk."""
        if unit not in self._entries:
            entry = self._read(unit)
            if entry is None:
                return False
            self._keep(unit, entry)
        return True

    def _keep(self, unit: int, entry: Entry) -> None:
        """Remember a batch for :meth:`close`, without what its files hold: that is on the disk, and would fill memory."""
        self._entries[unit] = replace(entry, files={})

    def _read(self, unit: int) -> Entry | None:
        try:
            entry = Entry.read(self._entry(unit).read_bytes())
        except (OSError, ValueError):
            return None
        return entry if entry.ids == self._units[unit] else None

    def _find_damage(self) -> None:
        """Look at the files of batches that are done, and have those searched again that have lost some."""
        for unit in range(len(self._units)):
            path = self._entry(unit)
            if not path.exists():
                continue
            try:
                entry = Entry.read(path.read_bytes())
                damaged = entry.first_damaged(self.folder)
            except (OSError, ValueError):
                damaged = path
            if damaged is not None:
                ids = ", ".join(self._units[unit])
                self._told(f"{damaged} is damaged or gone: searched again: {ids}.")
                # For the other processes, too.
                _remove(path)

    @property
    def done(self) -> int:
        """How many batches this process knows to be done."""
        return len(self._entries)

    @property
    def begun(self) -> int:
        """How many batches this process has begun and not finished."""
        return len(self._begun)

    def finish(self, unit: int, entry: Entry) -> None:
        """Note that a batch's results are on the disk; its checkpoint is needed no more.

        Raises:
            OutputError: the folder was removed, or cannot be written.
        """
        self.check_there()
        self.folder.write_text(f"state/units/{unit:05d}.json", entry.text())
        self._keep(unit, entry)
        if unit in self._begun:
            self._leave(unit)
        _log.info("batch %d is done: %s", unit, ", ".join(entry.ids))
        for file in self.checkpoint(unit).parent.glob(f"{unit:05d}.ckpt*"):
            _remove(file)
        if self._each is not None:
            self._each(entry)

    def checkpoint(self, unit: int) -> Path:
        """Return the path of a batch's checkpoint."""
        return self.folder.inside(f"state/checkpoints/{unit:05d}.ckpt")

    def close(self) -> Entry:
        """Tidy up once every batch is done, write ``failures.csv``, and return all batches as one."""
        parts = [self._entries[unit] for unit in range(len(self._units))]
        whole = Entry(tuple(i for part in parts for i in part.ids))
        for part in parts:
            whole.seconds.update(part.seconds)
            whole.failures.update(part.failures)
            whole.faults.update(part.faults)
            whole.errors.update(part.errors)
        if whole.failures:
            rows = [{"id": i, "reason": reason} for i, reason in whole.failures.items()]
            write_table(self.folder, FAILURES, rows)
        # What is left of starts before this one; a folder of such a name is somebody's own.
        left = [] if whole.failures else [self.folder.path / FAILURES]
        for file in (*left, *self.folder.path.rglob(".*.part")):
            if not file.is_dir():
                _remove(file)
        shutil.rmtree(self.checkpoint(0).parent, ignore_errors=True)
        self._locks.close()
        return whole

    def _entry(self, unit: int) -> Path:
        return self.folder.path / "state" / "units" / f"{unit:05d}.json"


def await_run(folder: RunFolder) -> None:
    """Wait until the first process has begun the run in a folder.

    Raises:
        OutputError: it does not begin, or is gone.
    """
    waited = 0.0
    while not (folder.path / NAME).exists():
        if waited >= PATIENCE_SECONDS or orphaned():
            raise OutputError(f"The first process has not begun a run in {folder.path}.")
        time.sleep(POLL_SECONDS)
        waited += POLL_SECONDS


def _remove(path: Path) -> None:
    """Remove a file of the run's own, or what lies in its place; a folder behind a link is not touched.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} could not be removed: {error}.") from error


def _check_fresh(folder: RunFolder) -> None:
    """Refuse a folder that holds anything but the first moments of a run."""
    if folder.path.is_dir() and {p.name for p in folder.path.iterdir()} == {"state"}:
        return
    folder.check()
