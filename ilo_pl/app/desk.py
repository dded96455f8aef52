"""What is done with a session: a photo is looked at, a face cut out, a search made ready."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ilo_pl.app.exchange import photo_of
from ilo_pl.app.session import Job, Photo, Session, check_idle
from ilo_pl.app.wish import PAINTABLE, FaceChoice, Wish, paste_command, prepare_commands
from ilo_pl.app.worker import Worker
from ilo_pl.errors import IloError, InputError


@dataclass(frozen=True)
class Settings:
    """What the app was started with.

    Args:
        folder: where sessions are kept.
        host: what the server is bound to.
        port: its port.
        token: what is asked for, if anything.
        names: further names that the machine is reached by.
        given: keys of every search.
        sides: sizes of pictures that the generator offers, from large to small.
        megabytes: how large a photo may be.
        megapixels: how many pixels it may have.
        hours: how long a session is kept that nobody looks at.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    names: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    sides: tuple[int, ...] = (1024, 512, 256)
    megabytes: float = 40.0
    megapixels: float = 52.0
    hours: float = 24.0


class Desk:
    """Does with sessions what needs pictures.

    Args:
        settings: what the app was started with.
        worker: what reads pictures.
    """

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self.settings = settings
        self.worker = worker

    async def look(self, session: Session, received: Path, name: str, file: str) -> None:
        """Look at a photo that was received; the one before stays if it cannot be used.

        Args:
            session: whose it is.
            received: where it is.
            name: what its owner calls it.
            file: what it is to be called.

        Raises:
            IloError: it cannot be used.
        """
        fresh = session.folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            shutil.copyfile(received, fresh / file)
            most = self.settings.megapixels * 1e6
            seen = await self.worker.call("look", fresh, file, most)
            check_idle(session)
            session.empty(but=fresh.name)
            for path in list(fresh.iterdir()):
                os.replace(path, session.folder / path.name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        session.state.photo = Photo(name=name, file=file, **seen)
        if seen["faces"]:
            await self.cut(session, FaceChoice())
        session.save()

    async def cut(self, session: Session, choice: FaceChoice) -> None:
        """Cut a face out.

        Raises:
            IloError: there is none.
        """
        photo = photo_of(session)
        sides = self.settings.sides
        found = await self.worker.call("cut", session.folder, photo.file, choice, sides)
        session.state.choice, session.state.face = choice, found
        session.state.version += 1

    def check_wish(self, wish: Wish, painted: bytes | None) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: the wish is that.
        """
        if wish.size not in self.settings.sides:
            shown = ", ".join(map(str, self.settings.sides))
            raise InputError(f"Pictures of {wish.size} pixels are not made here; {shown} are.")
        if wish.task == "super_resolution" and (wish.size % wish.factor or wish.aligned_size < 8):
            raise InputError(f"{wish.size} pixels cannot be {wish.factor} times something useful.")
        if wish.task == "inpainting" and painted is None:
            raise InputError("Nothing is marked yet: paint over what is missing, or give a box.")
        if wish.task not in PAINTABLE and painted is not None:
            raise InputError("What was painted has no meaning in this task.")

    async def make_job(
        self, session: Session, wish: Wish, photo: Photo, choice: FaceChoice, painted: bytes | None
    ) -> Job:
        """Return a job whose folder is ready.

        Raises:
            IloError: what was painted or asked for cannot be used.
        """
        number = max((job.number for job in session.state.jobs), default=0) + 1
        folder = session.folder / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        has_mask = painted is not None
        try:
            shutil.copyfile(session.folder / photo.file, folder / photo.file)
            if painted is not None:
                side = self.settings.sides[0]
                await self.worker.call("keep_mask", folder, painted, side)
            searches = await self.worker.call("plan", wish, has_mask, self.settings.given)
        except IloError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        pastes = [paste_command(wish, photo.file, n) for n in range(1, wish.answers + 1)]
        prepare = prepare_commands(wish, photo.file, choice, has_mask)
        job = Job(
            number=number,
            wish=wish,
            painted=has_mask,
            prepare=prepare,
            searches=searches,
            pastes=pastes,
        )
        check_idle(session)
        session.state.jobs.append(job)
        return job
