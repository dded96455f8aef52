"""What the app keeps of each visitor: a folder that only who has the cookie is led to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from ilo_pl.app.wish import FaceChoice, Wish
from ilo_pl.errors import InputError, OutputError

STATE = "session.json"
Status = Literal["waiting", "preparing", "searching", "pasting", "done", "stopped", "failed"]
ACTIVE = ("waiting", "preparing", "searching", "pasting")
MOST_SESSIONS = 200
MOST_JOBS = 50
# Looking at a session is written down no more often than this.
TOUCH_SECONDS = 60.0


class Job(BaseModel):
    """One restoration.

    Args:
        number: it, from 1; the name of its folder.
        wish: what was asked for.
        painted: whether there is a mask.
        prepare, searches, pastes: the commands, as arguments of ``ilo-pl``, in the order of their running.
        status: where it is.
        answers: how many answers are finished.
        pasted: whether each is in the photo.
        error: why it failed.
        seconds: how long its searches took.
        stopping: whether it was asked to stop.
    """

    number: int
    wish: Wish
    painted: bool
    prepare: list[list[str]]
    searches: list[list[str]]
    pastes: list[list[str]]
    status: Status = "waiting"
    answers: int = 0
    error: str = ""
    seconds: float = 0.0
    stopping: bool = False


class Photo(BaseModel):
    """The photo of a session.

    Args:
        name: what its owner calls it: shown, and given to downloads; never a path.
        file: its name on the disk, which the app has given.
        width, height: of the upright photo.
        faces: those found in it, from large to small.
        notes: what was told while it was read.
    """

    name: str
    file: str
    width: int
    height: int
    faces: list[dict[str, Any]]
    notes: list[str]


class State(BaseModel):
    """What a session's file holds."""

    photo: Photo | None = None
    choice: FaceChoice | None = None
    face: dict[str, Any] | None = None
    version: int = 0
    jobs: list[Job] = []


class Session:
    """One visitor's work.

    Args:
        folder: where it is kept.
        state: what is known of it.

    Attributes:
        progress: what the running search tells.
        changed: set, and replaced, whenever there is something new to tell.
        streams: how many pages listen.
        busy: held while the photo is changed.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self.progress: dict[str, Any] = {}
        self.changed = asyncio.Event()
        self.streams = 0
        self.busy = asyncio.Lock()
        self._touched = 0.0

    @property
    def active(self) -> bool:
        """Whether a job of it waits or runs."""
        return any(job.status in ACTIVE for job in self.state.jobs)

    def tell(self) -> None:
        """Wake the pages that listen."""
        self.changed.set()
        self.changed = asyncio.Event()

    def save(self) -> None:
        """Write the state down and tell of it."""
        temporary = self.folder / f".{STATE}.part"
        temporary.write_text(self.state.model_dump_json(), "utf-8")
        os.replace(temporary, self.folder / STATE)
        self.tell()

    def touch(self) -> None:
        """Note that somebody was here."""
        now = time.time()
        if now - self._touched > TOUCH_SECONDS:
            self._touched = now
            with contextlib.suppress(OSError):  # it was removed
                os.utime(self.folder / STATE)

    def job(self, number: int) -> Job | None:
        """Return a job by its number."""
        return next((job for job in self.state.jobs if job.number == number), None)

    def job_folder(self, job: Job) -> Path:
        """Return a job's folder."""
        return self.folder / str(job.number)

    def files(self, job: Job) -> dict[str, Path]:
        """Return the files of a job by their paths in its folder; requests choose among them and name no path."""
        folder = self.job_folder(job)
        return {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        }

    def empty(self, but: str) -> None:
        """Remove the photo and all results, but for a folder."""
        for path in self.folder.iterdir():
            if path.name == but:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != STATE:
                path.unlink(missing_ok=True)
        self.state = State(version=self.state.version + 1)


class Sessions:
    """All sessions in a folder.

    Args:
        folder: where they are; made when it is needed, for its owner alone.
        hours: how long one is kept that nobody looks at.
    """

    def __init__(self, folder: Path, hours: float) -> None:
        self.folder = folder
        self._hours = hours
        self._open: dict[str, Session] = {}

    def load(self) -> None:
        """Find the sessions that an earlier server left; what was running then is stopped.

        Raises:
            OutputError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.chmod(self.folder, 0o700)
            folders = [path for path in self.folder.iterdir() if (path / STATE).is_file()]
        except OSError as error:
            raise OutputError(f"The folder {self.folder} cannot be used: {error}.") from error
        for folder in folders:
            try:
                state = State.model_validate_json((folder / STATE).read_bytes())
            except (OSError, ValidationError, json.JSONDecodeError):
                continue  # of another version; it is removed when it is old
            for job in state.jobs:
                if job.status in ACTIVE:
                    job.status, job.stopping = "stopped", False
            self._open[folder.name] = Session(folder, state)
        self.clean()

    def find(self, key: str | None) -> Session | None:
        """Return the session of a cookie; the cookie itself is never a path."""
        session = self._open.get(_place(key)) if key else None
        if session is not None:
            session.touch()
        return session

    def create(self) -> tuple[str, Session]:
        """Begin a session.

        Returns:
            The cookie for it, and the session.

        Raises:
            OutputError: there are too many.
        """
        self.clean()
        if len(self._open) >= MOST_SESSIONS:
            raise OutputError(
                f"There are {MOST_SESSIONS} sessions already.",
                hint=f"Those that nobody looks at are removed after {self._hours:g} hours.",
            )
        key = secrets.token_urlsafe(32)
        folder = self.folder / _place(key)
        folder.mkdir(mode=0o700)
        session = self._open[folder.name] = Session(folder, State())
        session.save()
        return key, session

    def remove(self, session: Session) -> None:
        """Remove a session and its files."""
        self._open.pop(session.folder.name, None)
        shutil.rmtree(session.folder, ignore_errors=True)
        session.tell()

    def clean(self) -> None:
        """Remove what nobody has looked at for long, but for what waits or runs."""
        oldest = time.time() - self._hours * 3600
        for path in list(self.folder.iterdir()):
            session = self._open.get(path.name)
            if session is not None and (session.active or session.streams):
                continue
            file = path / STATE
            if _age_of(file if file.is_file() else path) < oldest:
                self._open.pop(path.name, None)
                shutil.rmtree(path, ignore_errors=True)

    @property
    def all(self) -> Sequence[Session]:
        """Every session."""
        return list(self._open.values())


def _place(key: str) -> str:
    """Return the name of a session's folder, from which its cookie cannot be told."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _age_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def check_room(folder: Path, needed: float) -> None:
    """Make sure that the disk has room.

    Raises:
        OutputError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"The disk has {free / 1e6:.0f} MB left, and {needed / 1e6:.0f} are needed.",
            hint="Free some space, or remove older results.",
        )


def check_idle(session: Session) -> None:
    """Make sure that no search of a session would lose its photo.

    Raises:
        InputError: one waits or runs.
    """
    if session.active:
        raise InputError("A search of this photo is still running.", hint="Stop it first.")
