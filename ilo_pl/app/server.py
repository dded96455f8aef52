"""The page's server: a photo in, searches, their results out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ilo_pl.app.guard import REPORT_POLICY, Guard
from ilo_pl.app.queue import SearchQueue
from ilo_pl.app.session import (
    MOST_JOBS,
    Job,
    Photo,
    Session,
    Sessions,
    check_idle,
    check_room,
)
from ilo_pl.app.view import snapshot
from ilo_pl.app.wish import PAINTABLE, FaceChoice, Wish, paste_command, prepare_commands
from ilo_pl.app.worker import Worker
from ilo_pl.errors import IloError, InputError
from ilo_pl.io.formats import SUFFIXES, UNREADABLE

STATIC = resources.files("ilo_pl.app") / "static"
PAGES = {
    "/": ("index.html", "text/html"),
    "/app.css": ("app.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/paint.js": ("paint.js", "text/javascript"),
}
# Requests other than a photo: a wish with what was painted.
MOST_BODY = 8_000_000
MOST_NAME = 150
MOST_STREAMS, MOST_STREAMS_EACH = 200, 10
PING_SECONDS = 15.0
CLEAN_SECONDS = 600.0
# About what a job leaves.
JOB_BYTES = 300e6
SHOWN_TYPES = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
TEXT_TYPES = (".txt", ".csv", ".yaml", ".json")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


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


class App:
    """The handlers of all requests, with what they share.

    Args:
        settings: what the app was started with.
        worker: what reads pictures.
    """

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self.settings = settings
        self.sessions = Sessions(settings.folder / "sessions", settings.hours)
        self.worker = worker
        self.queue = SearchQueue(self.worker)
        self.ending = asyncio.Event()
        # Cookies know no ports.
        self.cookie = f"ilo_pl_{settings.port}"
        self._streams = 0

    def starlette(self) -> Starlette:
        """Return the application."""
        routes = [
            *(Route(path, self._page) for path in PAGES),
            Route("/api/state", self._handled(self.state)),
            Route("/api/events", self._handled(self.events)),
            Route("/api/photo", self._handled(self.photo), methods=["POST"]),
            Route("/api/forget", self._handled(self.forget), methods=["POST"]),
            Route("/api/face", self._handled(self.face), methods=["POST"]),
            Route("/api/view.webp", self._handled(self.view)),
            Route("/api/face.png", self._handled(self.view)),
            Route("/api/jobs", self._handled(self.start), methods=["POST"]),
            Route("/api/jobs/{number:int}/stop", self._handled(self.stop), methods=["POST"]),
            Route("/api/jobs/{number:int}/go-on", self._handled(self.go_on), methods=["POST"]),
            Route("/api/jobs/{number:int}/zip", self._handled(self.zip)),
            Route("/api/jobs/{number:int}/files/{name:path}", self._handled(self.file)),
        ]
        settings = self.settings
        guard = Middleware(
            Guard,
            host=settings.host,
            names=settings.names,
            token=settings.token,
            cookie=f"{self.cookie}_token",
        )
        return Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.sessions.load()
        tasks = [asyncio.create_task(self.queue.run()), asyncio.create_task(self._clean())]
        try:
            yield
        finally:
            self.ending.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.worker.close()

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(CLEAN_SECONDS)
            self.sessions.clean()

    # ---- what all requests share -------------------------------------------------------------------

    def _handled(self, handler: Handler) -> Handler:
        """Turn errors for people into answers."""

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except _Answer as answer:
                return JSONResponse({"error": answer.text}, answer.status)
            except IloError as error:
                return JSONResponse({"error": str(error)}, 400)

        return handle

    def _session(self, request: Request) -> Session:
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is None:
            raise _Answer(
                404, "There is no photo yet, or it was removed because nobody looked at it."
            )
        return session

    def _job(self, request: Request) -> tuple[Session, Job]:
        session = self._session(request)
        job = session.job(request.path_params["number"])
        if job is None:
            raise _Answer(404, "There is no such search.")
        return session, job

    def _told(self, session: Session | None) -> dict[str, Any]:
        return snapshot(session, self.queue, self.settings.sides, self.settings.given)

    async def _page(self, request: Request) -> Response:
        name, kind = PAGES[request.url.path]
        return Response((STATIC / name).read_bytes(), media_type=kind)

    # ---- what is looked at -------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        """Tell what there is."""
        return JSONResponse(self._told(self.sessions.find(request.cookies.get(self.cookie))))

    async def events(self, request: Request) -> Response:
        """Tell what there is whenever it changes, as server-sent events."""
        session = self._session(request)
        if self._streams >= MOST_STREAMS or session.streams >= MOST_STREAMS_EACH:
            raise _Answer(503, "Too many pages listen; close some.")
        return StreamingResponse(self._stream(session), media_type="text/event-stream")

    async def _stream(self, session: Session) -> AsyncIterator[str]:
        self._streams += 1
        session.streams += 1
        try:
            while session in self.sessions.all:
                changed = session.changed
                session.touch()
                yield f"data: {json.dumps(self._told(session))}\n\n"
                while not await self._news(changed):
                    yield ": still here\n\n"
                if self.ending.is_set():
                    return
            yield f"data: {json.dumps(self._told(None))}\n\n"
        finally:
            self._streams -= 1
            session.streams -= 1

    async def _news(self, changed: asyncio.Event) -> bool:
        waits = [asyncio.create_task(event.wait()) for event in (changed, self.ending)]
        done, rest = await asyncio.wait(
            waits, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()
        return bool(done)

    async def view(self, request: Request) -> Response:
        """Show the photo, or its face."""
        session = self._session(request)
        path = session.folder / Path(request.url.path).name
        if not path.is_file():
            raise _Answer(404, "There is no such picture yet.")
        return FileResponse(path)

    async def file(self, request: Request) -> Response:
        """Give a file of a job: what is asked for is looked up among those that there are."""
        session, job = self._job(request)
        name = request.path_params["name"]
        path = session.files(job).get(name)
        if path is None:
            raise _Answer(404, "There is no such file.")
        suffix = path.suffix.lower()
        headers = {}
        kind = SHOWN_TYPES.get(suffix, "application/octet-stream")
        if path.name == "report.html":
            kind, headers["Content-Security-Policy"] = "text/html", REPORT_POLICY
        elif suffix in TEXT_TYPES:
            kind = "text/plain"
        if "download" in request.query_params or kind == "application/octet-stream":
            headers["Content-Disposition"] = attachment(f"{_stem(session)} {path.name}")
        return FileResponse(path, media_type=kind, headers=headers)

    async def zip(self, request: Request) -> Response:
        """Give all files of a job, from which its commands can be run again."""
        session, job = self._job(request)
        files = session.files(job)
        check_room(session.folder, sum(path.stat().st_size for path in files.values()) + 1e8)
        path = await asyncio.to_thread(_zipped, files, session.folder)
        headers = {"Content-Disposition": attachment(f"{_stem(session)} restored {job.number}.zip")}
        tidy = BackgroundTask(path.unlink)
        return FileResponse(path, media_type="application/zip", headers=headers, background=tidy)

    # ---- what changes something --------------------------------------------------------------------

    async def photo(self, request: Request) -> Response:
        """Take a photo; a session begins with the first."""
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is not None:
            check_idle(session)
            if session.state.jobs and request.query_params.get("replace") != "yes":
                raise _Answer(
                    409, "A new photo removes the results of this one. Download them first."
                )
        name = _shown_name(request.query_params.get("name", ""))
        file = f"photo{_suffix(name)}"
        most = int(self.settings.megabytes * 1e6)
        check_room(self.sessions.folder, JOB_BYTES)
        self._check_length(request, most)
        with tempfile.NamedTemporaryFile(dir=self.sessions.folder, prefix=".photo") as received:
            await _receive(request, received, most)
            received.flush()
            key = None
            if session is None:
                key, session = self.sessions.create()
            async with session.busy:
                try:
                    await self._look(session, Path(received.name), name, file)
                except IloError:
                    if key is not None:
                        self.sessions.remove(session)
                    raise
        answer = JSONResponse(self._told(session))
        if key is not None:
            answer.set_cookie(self.cookie, key, httponly=True, samesite="strict")
        return answer

    async def _look(self, session: Session, received: Path, name: str, file: str) -> None:
        """Look at what was received; the photo before stays if it cannot be used."""
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
            await self._cut(session, FaceChoice())
        session.save()

    async def face(self, request: Request) -> Response:
        """Cut out another face, or the middle."""
        session = self._session(request)
        choice = FaceChoice(**await self._json(request))
        async with session.busy:
            await self._cut(session, choice)
            session.save()
        return JSONResponse(self._told(session))

    async def _cut(self, session: Session, choice: FaceChoice) -> None:
        photo = _photo(session)
        sides = self.settings.sides
        found = await self.worker.call("cut", session.folder, photo.file, choice, sides)
        session.state.choice, session.state.face = choice, found
        session.state.version += 1

    async def forget(self, request: Request) -> Response:
        """Remove the session and all its files."""
        session = self._session(request)
        check_idle(session)
        self.sessions.remove(session)
        answer = JSONResponse(self._told(None))
        answer.delete_cookie(self.cookie)
        return answer

    async def start(self, request: Request) -> Response:
        """Begin a search."""
        session = self._session(request)
        body = await self._json(request)
        painted = _painting(body.pop("painted", None))
        wish = Wish(**body)
        photo, choice = _photo(session), session.state.choice
        if choice is None:
            raise InputError("There is no face yet.", hint="Click the eyes and the mouth first.")
        check_idle(session)
        if len(session.state.jobs) >= MOST_JOBS:
            raise InputError(f"There are {MOST_JOBS} searches of this photo already.")
        check_room(session.folder, JOB_BYTES * wish.answers)
        self._check_wish(wish, painted)
        async with session.busy:
            job = await self._make_job(session, wish, photo, choice, painted)
            self.queue.add(session, job)
        return JSONResponse(self._told(session))

    def _check_wish(self, wish: Wish, painted: bytes | None) -> None:
        if wish.size not in self.settings.sides:
            shown = ", ".join(map(str, self.settings.sides))
            raise InputError(f"Pictures of {wish.size} pixels are not made here; {shown} are.")
        if wish.task == "super_resolution" and (wish.size % wish.factor or wish.aligned_size < 8):
            raise InputError(f"{wish.size} pixels cannot be {wish.factor} times something useful.")
        if wish.task == "inpainting" and painted is None:
            raise InputError("Nothing is marked yet: paint over what is missing, or give a box.")
        if wish.task not in PAINTABLE and painted is not None:
            raise InputError("What was painted has no meaning in this task.")

    async def _make_job(
        self, session: Session, wish: Wish, photo: Photo, choice: FaceChoice, painted: bytes | None
    ) -> Job:
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

    async def stop(self, request: Request) -> Response:
        """Stop a search."""
        session, job = self._job(request)
        self.queue.stop(session, job)
        return JSONResponse(self._told(session))

    async def go_on(self, request: Request) -> Response:
        """Let a search that was stopped, or failed, go on."""
        session, job = self._job(request)
        check_idle(session)
        if job.status not in ("stopped", "failed"):
            raise InputError("This search is done.")
        self.queue.add(session, job)
        return JSONResponse(self._told(session))

    # ---- bodies ------------------------------------------------------------------------------------

    def _check_length(self, request: Request, most: int) -> None:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)

    async def _json(self, request: Request) -> dict[str, Any]:
        self._check_length(request, MOST_BODY)
        with tempfile.SpooledTemporaryFile(max_size=MOST_BODY) as received:
            await _receive(request, received, MOST_BODY)
            received.seek(0)
            try:
                body = json.loads(received.read())
            except (ValueError, RecursionError):
                raise InputError("The request holds no JSON.") from None
        if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
            raise InputError("The request holds no JSON object.")
        return body


class _Answer(Exception):  # noqa: N818
    """An answer with a status of its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _too_large(most: int) -> _Answer:
    return _Answer(
        413, f"This is larger than {most / 1e6:.0f} MB, which is the most that is taken."
    )


async def _receive(request: Request, received: Any, most: int) -> None:
    """Write a body to a file as it comes, and stop when it is too large."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        await asyncio.to_thread(received.write, chunk)
    if size == 0:
        raise InputError("The file is empty.")


def _photo(session: Session) -> Photo:
    if session.state.photo is None:
        raise _Answer(404, "There is no photo yet.")
    return session.state.photo


def _painting(value: Any) -> bytes | None:
    """Return what was painted, from a data URI's base64."""
    if value is None:
        return None
    try:
        return base64.b64decode(str(value).rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise InputError("What was painted is no picture.") from None


def _shown_name(name: str) -> str:
    """Return a name that can be shown: without folders, without what cannot be printed."""
    base = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in base if c.isprintable()).strip()[:MOST_NAME] or "photo"


def _suffix(name: str) -> str:
    """Return a suffix that is known, for formats are told apart by it, too; it is no stranger's text any more."""
    suffix = os.path.splitext(name.lower())[1]
    return next((known for known in (*SUFFIXES, *UNREADABLE) if known == suffix), ".png")


def _stem(session: Session) -> str:
    return os.path.splitext(_photo(session).name)[0]


def attachment(name: str) -> str:
    """Return the header by which a browser saves a file under a name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _zipped(files: Mapping[str, Path], folder: Path) -> Path:
    handle, name = tempfile.mkstemp(suffix=".zip", prefix=".", dir=folder)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for inner, path in files.items():
            # Pictures are compressed already.
            archive.write(path, inner, zipfile.ZIP_STORED)
    return Path(name)
