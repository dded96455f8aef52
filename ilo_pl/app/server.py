"""The page's server: a photo in, searches, their results out."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ilo_pl.app.desk import Desk, Settings
from ilo_pl.app.exchange import (
    Answer,
    attachment,
    check_length,
    download_name,
    known_suffix,
    painting,
    photo_of,
    read_json,
    receive,
    shown_name,
    stem_of,
    zipped,
)
from ilo_pl.app.guard import REPORT_POLICY, Guard
from ilo_pl.app.queue import SearchQueue
from ilo_pl.app.session import (
    MOST_JOBS,
    Job,
    Session,
    Sessions,
    check_idle,
    check_room,
)
from ilo_pl.app.streams import Streams
from ilo_pl.app.view import snapshot
from ilo_pl.app.wish import FaceChoice, Wish
from ilo_pl.app.worker import Worker
from ilo_pl.errors import IloError, InputError

STATIC = resources.files("ilo_pl.app") / "static"
# The page has the colours of reports.
PALETTE = resources.files("ilo_pl.evaluation") / "templates" / "palette.css"
PAGES = {
    "/": ((STATIC / "index.html",), "text/html"),
    "/app.css": ((PALETTE, STATIC / "app.css"), "text/css"),
    "/app.js": ((STATIC / "app.js",), "text/javascript"),
    "/paint.js": ((STATIC / "paint.js",), "text/javascript"),
}
CLEAN_SECONDS = 600.0
# About what a job leaves.
JOB_BYTES = 300e6
SHOWN_TYPES = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
TEXT_TYPES = (".txt", ".csv", ".yaml", ".json")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


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
        self.desk = Desk(settings, worker)
        self.queue = SearchQueue(self.worker)
        self.ending = asyncio.Event()
        # Cookies know no ports.
        self.cookie = f"ilo_pl_{settings.port}"
        self.streams = Streams(self.sessions, self.ending, self._told)

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
            except Answer as answer:
                return JSONResponse({"error": answer.text}, answer.status)
            except IloError as error:
                return JSONResponse({"error": str(error)}, 400)

        return handle

    def _session(self, request: Request) -> Session:
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is None:
            raise Answer(
                404, "There is no photo yet, or it was removed because nobody looked at it."
            )
        return session

    def _job(self, request: Request) -> tuple[Session, Job]:
        session = self._session(request)
        job = session.job(request.path_params["number"])
        if job is None:
            raise Answer(404, "There is no such search.")
        return session, job

    def _told(self, session: Session | None) -> dict[str, Any]:
        return snapshot(session, self.queue, self.settings.sides, self.settings.given)

    async def _page(self, request: Request) -> Response:
        parts, kind = PAGES[request.url.path]
        return Response(b"".join(part.read_bytes() for part in parts), media_type=kind)

    # ---- what is looked at -------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        """Tell what there is."""
        return JSONResponse(self._told(self.sessions.find(request.cookies.get(self.cookie))))

    async def events(self, request: Request) -> Response:
        """Tell what there is whenever it changes, as server-sent events."""
        session = self._session(request)
        if not self.streams.has_room(session):
            raise Answer(503, "Too many pages listen; close some.")
        return StreamingResponse(self.streams.of(session), media_type="text/event-stream")

    async def view(self, request: Request) -> Response:
        """Show the photo, or its face."""
        session = self._session(request)
        path = session.folder / Path(request.url.path).name
        if not path.is_file():
            raise Answer(404, "There is no such picture yet.")
        return FileResponse(path)

    async def file(self, request: Request) -> Response:
        """Give a file of a job: what is asked for is looked up among those that there are."""
        session, job = self._job(request)
        name = request.path_params["name"]
        path = session.files(job).get(name)
        if path is None:
            raise Answer(404, "There is no such file.")
        suffix = path.suffix.lower()
        headers = {}
        kind = SHOWN_TYPES.get(suffix, "application/octet-stream")
        if path.name == "report.html":
            kind, headers["Content-Security-Policy"] = "text/html", REPORT_POLICY
        elif suffix in TEXT_TYPES:
            kind = "text/plain"
        if "download" in request.query_params or kind == "application/octet-stream":
            headers["Content-Disposition"] = attachment(download_name(session, path))
        return FileResponse(path, media_type=kind, headers=headers)

    async def zip(self, request: Request) -> Response:
        """Give all files of a job, from which its commands can be run again."""
        session, job = self._job(request)
        files = session.files(job)
        check_room(session.folder, sum(path.stat().st_size for path in files.values()) + 1e8)
        path = await asyncio.to_thread(zipped, files, session.folder)
        headers = {
            "Content-Disposition": attachment(f"{stem_of(session)} restored {job.number}.zip")
        }
        tidy = BackgroundTask(path.unlink)
        return FileResponse(path, media_type="application/zip", headers=headers, background=tidy)

    # ---- what changes something --------------------------------------------------------------------

    async def photo(self, request: Request) -> Response:
        """Take a photo; a session begins with the first."""
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is not None:
            check_idle(session)
            if session.state.jobs and request.query_params.get("replace") != "yes":
                raise Answer(
                    409, "A new photo removes the results of this one. Download them first."
                )
        name = shown_name(request.query_params.get("name", ""))
        file = f"photo{known_suffix(name)}"
        most = int(self.settings.megabytes * 1e6)
        check_room(self.sessions.folder, JOB_BYTES)
        check_length(request, most)
        with tempfile.NamedTemporaryFile(dir=self.sessions.folder, prefix=".photo") as received:
            await receive(request, received, most)
            received.flush()
            key = None
            if session is None:
                key, session = self.sessions.create()
            async with session.busy:
                try:
                    await self.desk.look(session, Path(received.name), name, file)
                except IloError:
                    if key is not None:
                        self.sessions.remove(session)
                    raise
        answer = JSONResponse(self._told(session))
        if key is not None:
            answer.set_cookie(self.cookie, key, httponly=True, samesite="strict")
        return answer

    async def face(self, request: Request) -> Response:
        """Cut out another face, or the middle."""
        session = self._session(request)
        choice = FaceChoice(**await read_json(request))
        async with session.busy:
            await self.desk.cut(session, choice)
            session.save()
        return JSONResponse(self._told(session))

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
        body = await read_json(request)
        painted = painting(body.pop("painted", None))
        wish = Wish(**body)
        photo, choice = photo_of(session), session.state.choice
        if choice is None:
            raise InputError("There is no face yet.", hint="Click the eyes and the mouth first.")
        check_idle(session)
        if len(session.state.jobs) >= MOST_JOBS:
            raise InputError(f"There are {MOST_JOBS} searches of this photo already.")
        check_room(session.folder, JOB_BYTES * wish.answers)
        self.desk.check_wish(wish, painted)
        async with session.busy:
            job = await self.desk.make_job(session, wish, photo, choice, painted)
            self.queue.add(session, job)
        return JSONResponse(self._told(session))

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
