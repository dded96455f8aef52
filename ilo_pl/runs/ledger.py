"""What a run folder knows of its own run: what it is, which images are done, who is at which.

    state/run.json                   the configuration and the ids of all images
    state/units/00007.json           this batch of images is done; its results were written before it
    state/checkpoints/00007.ckpt     where its search is
    state/locks                      byte n is locked by the process that searches batch n

A lock ends with its process, however that ends, so no batch is ever lost, and none is searched twice.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ilo_pl.config.differences import changes
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, OutputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table

try:
    import fcntl
except ImportError:  # Windows, where a run has one process
    fcntl = None  # type: ignore[assignment]

FAILURES = "failures.csv"
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600
# A file system that knows no locks; one process needs none.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class Entry:
    """A finished batch of images.

    Args:
        ids: its images.
        seconds: how long the search of each took.
        failures: why images could not be used, by id.
        faults: how often an image's loss was not finite, by id, where it happened.
    """

    ids: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def found(self) -> list[str]:
        """Ids of the images that have results."""
        return [i for i in self.ids if i not in self.failures]


class Ledger:
    """The state of a run.

    Args:
        folder: the run folder.
        units: ids of the images of each batch; their composition depends on nothing but the run.
    """

    def __init__(self, folder: RunFolder, units: Sequence[tuple[str, ...]]) -> None:
        self.folder = folder
        self._units = tuple(units)
        self._entries: dict[int, Entry] = {}
        self._locks: int | None = None

    # ---- what the run is ---------------------------------------------------------------------------

    def begin(self, config: RunConfig) -> None:
        """Make the folder, or take up the run in it; the first process does this.

        Raises:
            ConfigurationError: the run in the folder has another configuration, or other images.
            OutputError: the folder holds something else, or cannot be written.
        """
        record = self._record(config)
        if not self._begun:
            _check_fresh(self.folder)
        elif not config.allow_changes:
            self._compare(record)
        self.folder.write_text("state/run.json", json.dumps(record))
        text = OmegaConf.to_yaml(OmegaConf.create(config.model_dump()))
        self.folder.write_text("config.yaml", text)

    def join(self, config: RunConfig) -> None:
        """Wait until the first process has begun the run; the others do this.

        Raises:
            ConfigurationError: it is another run.
            OutputError: it does not begin.
        """
        self._await()
        if not config.allow_changes:
            self._compare(self._record(config))

    def _await(self) -> None:
        waited = 0.0
        while not self._begun:
            if waited >= PATIENCE_SECONDS:
                raise OutputError(f"The first process has not begun a run in {self.folder.path}.")
            time.sleep(POLL_SECONDS)
            waited += POLL_SECONDS

    @property
    def _begun(self) -> bool:
        return (self.folder.path / "state" / "run.json").exists()

    @staticmethod
    def batch_size_of(folder: RunFolder, *, wait: bool) -> int | None:
        """Return how many images the run in a folder has in a batch, ``None`` where there is no run.

        Args:
            folder: the run folder.
            wait: whether to wait for the first process to begin the run.

        Raises:
            OutputError: it does not begin.
        """
        ledger = Ledger(folder, [])
        if wait:
            ledger._await()
        if not ledger._begun:
            return None
        record = json.loads((folder.path / "state" / "run.json").read_text("utf-8"))
        return int(record["config"]["batch_size"])

    def _record(self, config: RunConfig) -> dict[str, Any]:
        ids = [image_id for unit in self._units for image_id in unit]
        return {"config": config.model_dump(mode="json"), "ids": ids}

    def _compare(self, record: Mapping[str, Any]) -> None:
        path = self.folder.path / "state" / "run.json"
        before = json.loads(path.read_text("utf-8"))
        changed = changes(before["config"], record["config"])
        if before["ids"] != record["ids"]:
            differ = sorted(set(before["ids"]) ^ set(record["ids"]))
            changed.append(f"images that were added or removed: {', '.join(differ[:5]) or 'order'}")
        if changed:
            raise ConfigurationError(
                f"The run in {self.folder.path} was begun otherwise: {'; '.join(changed)}.",
                hint="Resume with what it was begun with, give another output=..., or pass "
                "allow_changes=true: batches that are done stay as they are.",
            )

    # ---- what is done ------------------------------------------------------------------------------

    def pending(self, rank: int = 0, world: int = 1) -> Iterator[int]:
        """Yield batches to search, each locked until the next is asked for.

        The own share comes first, then what others have not begun. The first process goes on until
        every batch is done, also those of a process that was killed; the others end when all that is
        left is being searched.
        """
        own = range(rank, len(self._units), world)
        order = [*own, *(u for u in range(len(self._units)) if u not in own)]
        while order := [u for u in order if not self.is_done(u)]:
            worked = False
            for unit in order:
                if self._lock(unit, alone=world == 1):
                    try:
                        if not self.is_done(unit):
                            worked = True
                            yield unit
                    finally:
                        self._unlock(unit)
            if not worked:
                if rank > 0:
                    return
                time.sleep(POLL_SECONDS)

    def is_done(self, unit: int) -> bool:
        """Return whether a batch's results are on the disk."""
        if unit not in self._entries:
            entry = self._read(unit)
            if entry is None:
                return False
            self._entries[unit] = entry
        return True

    def _read(self, unit: int) -> Entry | None:
        try:
            stored = json.loads(self._entry(unit).read_text("utf-8"))
            entry = Entry(tuple(stored.pop("ids")), **stored)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        results = self.folder.path / "reconstructions"
        whole = all((results / f"{i}.png").exists() for i in entry.found)
        return entry if whole and entry.ids == self._units[unit] else None

    @property
    def done(self) -> int:
        """How many batches this process knows to be done."""
        return len(self._entries)

    def finish(self, unit: int, entry: Entry) -> None:
        """Note that a batch's results are on the disk; its checkpoint is needed no more."""
        self.folder.write_text(f"state/units/{unit:05d}.json", json.dumps(asdict(entry)))
        self._entries[unit] = entry
        for file in self.checkpoint(unit).parent.glob(f"{unit:05d}.ckpt*"):
            file.unlink(missing_ok=True)

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
        if whole.failures:
            rows = [{"id": i, "reason": reason} for i, reason in whole.failures.items()]
            write_table(self.folder, FAILURES, rows)
        for orphan in self.folder.path.rglob(".*.part"):
            orphan.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint(0).parent, ignore_errors=True)
        if self._locks is not None:
            os.close(self._locks)
            self._locks = None
        (self.folder.path / "state" / "locks").unlink(missing_ok=True)
        return whole

    def _entry(self, unit: int) -> Path:
        return self.folder.path / "state" / "units" / f"{unit:05d}.json"

    # ---- who is at which ---------------------------------------------------------------------------

    def _lock(self, unit: int, *, alone: bool) -> bool:
        try:
            if self._locks is None:
                # Once: to close any handle of the file would give up all locks.
                path = self.folder.inside("state/locks")
                self._locks = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no locks of POSIX")
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, unit)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if alone and error.errno in NO_LOCKS:
                return True
            raise OutputError(
                f"The file system of {self.folder.path} cannot lock files: {error}.",
                hint="Several processes need that; give another folder, or trainer.devices=1.",
            ) from error
        return True

    def _unlock(self, unit: int) -> None:
        if self._locks is not None and fcntl is not None:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, unit)


def _check_fresh(folder: RunFolder) -> None:
    """Refuse a folder that holds anything but the first moments of a run."""
    if folder.path.is_dir() and {p.name for p in folder.path.iterdir()} == {"state"}:
        return
    folder.check()
