"""One search at a time: who asked first is first."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilo_pl.app.session import Job, Session
from ilo_pl.app.wish import numbered
from ilo_pl.app.worker import Worker
from ilo_pl.errors import SOME_FAILED, IloError

POLL_SECONDS = 0.3
# How long a search may take to write its checkpoint when the server ends.
PATIENCE_SECONDS = 30.0
LIVE = "live/progress.rank0.json"
LOG = "log.txt"
LOG_TAIL = 4000


class SearchQueue:
    """Runs jobs, one after the other, as ``ilo-pl invert`` in processes of their own.

    Args:
        worker: prepares the pictures and pastes the faces.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._waiting: list[tuple[Session, Job]] = []
        self._running: tuple[Session, Job] | None = None
        self._news = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, session: Session, job: Job) -> None:
        """Let a job wait for its turn."""
        job.status, job.error, job.stopping = "waiting", "", False
        self._waiting.append((session, job))
        session.save()
        self._news.set()

    def ahead(self, job: Job) -> int:
        """Return how many jobs come before one that waits."""
        before = [other for _, other in self._waiting]
        place = next((i for i, other in enumerate(before) if other is job), 0)
        return place + (self._running is not None)

    def stop(self, session: Session, job: Job) -> None:
        """Stop a job: at the end of a step, from which it can go on; one that waits at once."""
        if self._running is not None and self._running[1] is job:
            job.stopping = True
            self._signal()
        elif any(other is job for _, other in self._waiting):
            self._waiting = [pair for pair in self._waiting if pair[1] is not job]
            job.status = "stopped"
        session.save()
        self._tell_waiting()

    async def run(self) -> None:
        """Run jobs for ever; when it is cancelled, the running one is stopped as by its owner."""
        try:
            while True:
                if not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                    continue
                session, job = self._running = self._waiting.pop(0)
                self._tell_waiting()
                await self._job(session, job)
                self._running = None
                self._tell_waiting()
        finally:
            self._end()

    def _tell_waiting(self) -> None:
        for session, _ in self._waiting:
            session.tell()

    def _end(self) -> None:
        """Stop what runs, for the server ends."""
        if self._running is None:
            return
        session, job = self._running
        if self._process is not None:
            self._signal()
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        job.status, job.stopping = "stopped", False
        session.save()

    def _signal(self) -> None:
        # Not SIGINT, which a second one would make an abort; and this one ends a process that is still being imported.
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    async def _job(self, session: Session, job: Job) -> None:
        try:
            await self._all_of(session, job)
        except IloError as error:
            job.status, job.error = "failed", str(error)
        except Exception as error:  # the queue goes on for the others
            job.status, job.error = "failed", f"{type(error).__name__}: {error}"
        job.stopping = False
        session.progress = {}
        if session.folder.is_dir():
            session.save()

    async def _all_of(self, session: Session, job: Job) -> None:
        folder = session.job_folder(job)
        job.status = "preparing"
        session.save()
        for command in job.prepare:
            # What a stop cut off is made again; what is there is not.
            if not (folder / _output(command)).exists():
                await self._worker.call("run_command", folder, command)
        for answer in range(job.answers + 1, len(job.searches) + 1):
            if job.stopping or not await self._search(session, job, answer):
                job.status = "stopped"
                return
            job.status = "pasting"
            session.save()
            await self._paste(job, folder, answer)
            job.answers = answer
            session.save()
        job.status = "done"

    async def _paste(self, job: Job, folder: Path, answer: int) -> None:
        restored = numbered("restored", answer)
        shutil.rmtree(folder / restored, ignore_errors=True)
        await self._worker.call("run_command", folder, job.pastes[answer - 1])
        view = f"{restored}.view.webp"
        await self._worker.call("shrink", folder, f"{restored}/photo.png", view)

    async def _search(self, session: Session, job: Job, answer: int) -> bool:
        """Search for an answer; return whether it was found, not stopped.

        Raises:
            IloError: it failed.
        """
        folder, arguments = session.job_folder(job), list(job.searches[answer - 1])
        results = folder / numbered("results", answer)
        if results.exists():
            arguments.append("resume=true")
        job.status, session.progress = "searching", {}
        session.save()
        begun = time.monotonic()
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ilo_pl", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                # Ctrl-C in the terminal is for the server, which stops the search in its own time.
                start_new_session=True,
            )
        try:
            while self._process.poll() is None:
                await asyncio.sleep(POLL_SECONDS)
                self._follow(session, results)
            status = self._process.returncode
        finally:
            job.seconds += time.monotonic() - begun
            if self._process.poll() is not None:
                self._process = None
        if status == 0:
            return True
        if job.stopping:
            return False
        raise IloError(_last_words(folder, status))

    def _follow(self, session: Session, results: Path) -> None:
        """Tell of what the search has written since."""
        try:
            progress: Mapping[str, Any] = json.loads((results / LIVE).read_bytes())
        except (OSError, ValueError):
            return
        if progress != session.progress:
            session.progress = dict(progress)
            session.tell()


def _environment() -> dict[str, str]:
    # Names and messages may hold any character.
    return {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace", "COLUMNS": "1000"}


def _output(command: list[str]) -> str:
    return next(text.partition("=")[2] for text in command if text.startswith("output="))


def _last_words(folder: Path, status: int) -> str:
    """Return why a search failed, from what it said last."""
    with (folder / LOG).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
        lines = log.read().decode("utf-8", "replace").splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith("error:")]
    said = "\n".join(lines[begins[-1] :]) if begins else ""
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    if status == SOME_FAILED and not said:
        said = "No picture was found."
    said = said.removeprefix("error:").replace(f"{folder}{os.sep}", "").strip()
    return said or f"The search ended with {name}; log.txt among its files may say why."
