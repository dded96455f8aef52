"""What the page is told: all that there is to show, each time anew."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ilo_pl.app.queue import SearchQueue
from ilo_pl.app.session import Job, Session
from ilo_pl.app.wish import numbered

PROGRAM = "ilo-pl"


def snapshot(
    session: Session | None, queue: SearchQueue, sides: Sequence[int], given: Sequence[str]
) -> dict[str, Any]:
    """Return what the page shows, as JSON.

    Args:
        session: the visitor's, if there is one.
        queue: of all searches.
        sides: sizes of pictures that the generator offers.
        given: keys of every search.
    """
    told: dict[str, Any] = {"sides": list(sides), "given": list(given)}
    if session is None:
        return {**told, "photo": None, "face": None, "version": 0, "jobs": []}
    state = session.state
    return {
        **told,
        "photo": state.photo and state.photo.model_dump(exclude={"file"}),
        "face": state.face,
        "choice": state.choice and state.choice.model_dump(),
        "version": state.version,
        "jobs": [_job(session, job, queue) for job in reversed(state.jobs)],
    }


def _job(session: Session, job: Job, queue: SearchQueue) -> dict[str, Any]:
    folder = session.job_folder(job)
    about: dict[str, Any] = {
        "number": job.number,
        "wish": job.wish.model_dump(),
        "status": "stopping" if job.stopping else job.status,
        "error": job.error,
        "seconds": round(job.seconds, 1),
        "commands": commands(job),
        "answers": [_answer(folder, job, n) for n in range(1, job.answers + 1)],
        "answer": min(job.answers + 1, job.wish.answers),
    }
    if job.status == "waiting":
        about["ahead"] = queue.ahead(job)
    if job.status in ("searching", "stopped"):
        about |= _going(session, job, folder)
    return about


def _going(session: Session, job: Job, folder: Path) -> dict[str, Any]:
    """Return how far a search is, and its picture so far."""
    live = f"{numbered('results', job.answers + 1)}/live/photo.png"
    try:
        version = int((folder / live).stat().st_mtime * 1000)
    except OSError:
        return {"progress": session.progress, "live": None}
    return {"progress": session.progress, "live": f"{live}?v={version}"}


def _answer(folder: Path, job: Job, number: int) -> dict[str, Any]:
    """Return where the files of an answer are."""
    results, restored = numbered("results", number), numbered("restored", number)
    wanted = {
        "before": "aligned/photo.png",
        "measured": f"{results}/measurements/photo.png",
        "face": f"{results}/reconstructions/photo.png",
        "photo": f"{restored}/photo.png",
        "photo_view": f"{restored}.view.webp",
        "report": f"{results}/report.html",
    }
    return {what: name for what, name in wanted.items() if (folder / name).is_file()}


def commands(job: Job) -> list[str]:
    """Return the commands that do the same, to be copied."""
    runs = [step for pair in zip(job.searches, job.pastes, strict=True) for step in pair]
    return [shlex.join([PROGRAM, *arguments]) for arguments in (*job.prepare, *runs)]
