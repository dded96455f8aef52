"""What strangers and their files can do to the app: nothing but get a clear answer."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from ilo_pl.app import pictures
from ilo_pl.app.desk import Settings
from ilo_pl.app.exchange import attachment
from ilo_pl.app.server import App
from ilo_pl.app.session import Job
from ilo_pl.app.worker import Worker
from ilo_pl.errors import InputError

HERE = "http://127.0.0.1:8765"
OWN = {"Origin": HERE}
GIVEN = ("generator=tiny", "method.splits=[0,2]", "method.free_noises=4", "compile=false")


class Here(Worker):
    """Calls in the server's own process: the tests of the worker itself are below."""

    def _call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(pictures, function)(*arguments)
        except pictures.IloError as error:
            raise InputError(str(error)) from error


def make(folder: Path, **options: Any) -> App:
    settings = {"sides": (32, 16), "given": GIVEN, "megabytes": 1.0, "megapixels": 1.0}
    return App(Settings(folder, **{**settings, **options}), Here())


@pytest.fixture
def app(tmp_path: Path) -> App:
    return make(tmp_path / "app")


@pytest.fixture
def served(app: App) -> Iterator[Any]:
    application = app.starlette()
    with TestClient(application, HERE):
        yield application


def visitor(served: Any, **headers: str) -> TestClient:
    """Return a browser of its own: the server runs already."""
    return TestClient(served, HERE, headers={**OWN, **headers})


def photo_bytes(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that says it has side x side pixels, in one bit each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * 64) * (side // 64), 9)
    # Text behind the pixels makes readers of the header decode it all.
    parts = [(b"IHDR", head), (b"IDAT", rows), (b"tEXt", b"a\0b"), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_file_that_is_too_large_is_refused_while_it_comes(served: Any, app: App) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(800):
            yield bytes(64 << 10)

    client = visitor(served)
    said = client.post("/api/photo", content=bytes(50_000_000))
    assert (said.status_code, said.json()["error"][:23]) == (413, "This is larger than 1 M")
    # Without a length it is counted.
    said = client.post("/api/photo", content=pieces())
    assert said.status_code == 413
    assert files_below(app.settings.folder) == set() and not client.cookies


@pytest.mark.parametrize("side", [2048, 1 << 15])
def test_a_decompression_bomb_is_refused_by_its_header(served: Any, app: App, side: int) -> None:
    said = visitor(served).post("/api/photo", content=bomb(side))
    assert said.status_code == 400
    assert "more than 1 million" in said.json()["error"] or "exceeds limit" in said.json()["error"]
    assert str(app.settings.folder) not in said.text
    assert files_below(app.settings.folder) == set()


@pytest.mark.parametrize("content", [b"", b"no picture", photo_bytes()[:500]])
def test_what_is_no_photo_leaves_the_one_before(served: Any, content: bytes) -> None:
    client = visitor(served)
    assert client.post("/api/photo?name=good.png", content=photo_bytes()).status_code == 200
    said = client.post("/api/photo?name=bad.png", content=content)
    assert said.status_code == 400 and said.json()["error"]
    assert client.get("/api/state").json()["photo"]["name"] == "good.png"
    assert client.get("/api/view.webp").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x.png", "..\\..\\x.exe", "/etc/passwd", "a\0b\n.png", "x" * 5000, "'; rm -rf ~", "con.jpg", "\u202egnp.exe"],
)  # fmt: skip
def test_a_hostile_name_is_shown_and_never_a_path(served: Any, app: App, name: str) -> None:
    client = visitor(served)
    said = client.post("/api/photo", params={"name": name}, content=photo_bytes())
    shown = said.json()["photo"]["name"]
    assert said.status_code == 200 and len(shown) <= 150
    assert not {*"/\\\0\n\u202e"} & {*shown}
    (folder,) = (app.settings.folder / "sessions").iterdir()
    assert {f.split(".")[0] for f in files_below(folder)} == {"session", "photo", "view"}
    header = attachment(f'{shown}\r\nX: y"; é.png')
    assert "\n" not in header and header.count('"') == 2 and header.isascii()


def finished(client: TestClient, app: App) -> Path:
    """Give a visitor a job with files; return its folder."""
    client.post("/api/photo?name=a.png", content=photo_bytes())
    session = app.sessions.find(client.cookies[app.cookie])
    assert session is not None
    wish = {"task": "colourisation", "size": 32}
    job = Job(number=1, wish=wish, painted=False, prepare=[], searches=[], pastes=[], status="done")
    session.state.jobs.append(job)
    session.save()
    folder = session.job_folder(job)
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "report.html").write_text("<p>report</p>")
    (folder / "evil.html").write_text("<script>alert(1)</script>")
    return folder


def test_no_path_leads_out_of_a_job(served: Any, app: App, tmp_path: Path) -> None:
    client = visitor(served)
    folder = finished(client, app)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert client.get("/api/jobs/1/files/results/report.html").text == "<p>report</p>"
    for name in ("../session.json", "%2e%2e/session.json", "..%2fsession.json", "results/../../session.json", "link.png",
                 str(tmp_path / "secret.png"), "/etc/passwd", "%2fetc%2fpasswd", "..\\session.json", "results", "."):  # fmt: skip
        said = client.get(f"/api/jobs/1/files/{name}")
        assert said.status_code == 404, name
    for path in ("/../session.json", "/static/../server.py", "/api/jobs/2/zip", "/api/jobs/x/zip"):
        assert client.get(path).status_code == 404
    # Other pages than the report are not shown as pages.
    evil = client.get("/api/jobs/1/files/evil.html")
    assert evil.headers["content-type"] == "application/octet-stream"
    assert evil.headers["content-disposition"].startswith("attachment")


def test_visitors_see_their_own_only_and_twenty_come_at_once(served: Any, app: App) -> None:
    first = visitor(served)
    folder = finished(first, app)
    others = [visitor(served) for _ in range(20)]
    guess = visitor(served)
    guess.cookies.set(app.cookie, folder.parent.name)  # what a look at the disk would tell

    async def all_at_once() -> list[Any]:
        def upload(n: int) -> Any:
            return others[n].post(f"/api/photo?name=v{n}.png", content=photo_bytes(n))

        return await asyncio.gather(*(asyncio.to_thread(upload, n) for n in range(20)))

    answers = asyncio.run(all_at_once())
    assert [a.json()["photo"]["name"] for a in answers] == [f"v{n}.png" for n in range(20)]
    assert len({o.cookies[app.cookie] for o in others}) == 20
    for n, client in enumerate([*others, guess]):
        assert client.get("/api/jobs/1/files/results/report.html").status_code == 404
        told = client.get("/api/state").json()
        assert told["photo"] is None if client is guess else told["photo"]["name"] == f"v{n}.png"
    assert (
        guess.post("/api/jobs/1/stop").status_code == guess.post("/api/forget").status_code == 404
    )
    assert first.post("/api/forget").status_code == 200
    assert not folder.exists() and others[0].get("/api/state").json()["photo"]
    modes = {p.stat().st_mode & 0o77 for p in (app.settings.folder / "sessions").iterdir()}
    assert modes == {0}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Host": "evil.example:8765", "Origin": "http://evil.example:8765"}, False),
        ({"Host": "127.0.0.1.evil.example:8765"}, False),
        ({"Host": ""}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9000"}, True),
        ({"Host": "[::1]:8765", "Origin": "http://[::1]:8765"}, True),
    ],
)
def test_only_the_pages_own_origin_changes_anything(
    served: Any, app: App, headers: dict[str, str], allowed: bool
) -> None:
    said = visitor(served, **headers).post("/api/photo", content=photo_bytes())
    assert said.status_code == (200 if allowed else 403)
    assert bool(files_below(app.settings.folder)) == allowed
    assert "default-src 'none'" in said.headers["content-security-policy"]


def test_other_sites_read_nothing_and_frame_nothing(served: Any) -> None:
    for site in ("cross-site", "same-site"):
        client = visitor(served, **{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        assert client.get("/api/state").status_code == client.get("/app.js").status_code == 403
    page = visitor(served).get("/")
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in page.headers
    assert "://" not in page.text.replace("http://www.w3.org/2000/svg", "")


def test_beyond_this_machine_a_token_is_asked_for(tmp_path: Path) -> None:
    app = make(tmp_path / "app", host="0.0.0.0", token="right", names=("box.lan",))
    with TestClient(app.starlette(), "http://192.168.0.7:8765", follow_redirects=False) as client:
        for path in ("/", "/?token=wrong", "/?token=", "/api/state", "/app.js"):
            assert client.get(path).status_code == 403
        client.cookies.set(f"{app.cookie}_token", "wrong")
        assert client.get("/api/state").status_code == 403
        client.cookies.clear()
        let_in = client.get("/?token=right")
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
        assert "HttpOnly" in let_in.headers["set-cookie"]
        assert client.get("/api/state").status_code == 200
        # With the token, too, a stranger's domain that leads here is none of this machine's names.
        for host, status in (("evil.example", 403), ("box.lan:8765", 200), (socket.gethostname(), 200)):  # fmt: skip
            assert client.get("/api/state", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"task": "inpainting", "size": 32},
        {"task": "inpainting", "size": 32, "painted": "data:image/png;base64,AAAA"},
        {"task": "inpainting", "size": 32, "painted": 7},
        {"task": "colourisation", "size": 1024},
        {"task": "colourisation", "size": 32, "method": "tv"},
        {"task": "colourisation", "size": 32, "answers": 1000},
        {"task": "denoising", "size": 32, "sigma": float("nan")},
        {"task": "denoising", "size": 32, "sigma": 0.0},
        {"task": "denoising", "size": 32, "output": "/etc"},
        {"task": "old_photo", "size": 32, "sigma": 0.0},
        {"task": "super_resolution", "size": 32, "factor": 3},
        [1],
    ],
)
def test_a_wish_that_cannot_be_is_explained_and_leaves_nothing(
    served: Any, app: App, wish: Any
) -> None:
    client = visitor(served)
    client.post("/api/photo", content=photo_bytes())
    assert client.post("/api/face", content=b'{"middle": true}').status_code == 200
    before = files_below(app.settings.folder)
    said = client.post("/api/jobs", content=json.dumps(wish))
    assert said.status_code == 400 and len(said.json()["error"]) > 10
    assert files_below(app.settings.folder) == before
    assert client.get("/api/state").json()["jobs"] == []


def test_sessions_are_found_after_a_restart_and_old_ones_go(tmp_path: Path) -> None:
    app = make(tmp_path / "app")
    with TestClient(app.starlette(), HERE, headers=OWN) as client:
        finished(client, app)
        session = app.sessions.find(client.cookies[app.cookie])
        assert session is not None
        session.state.jobs[0].status = "searching"
        session.save()
        cookies = dict(client.cookies)
    with TestClient(make(tmp_path / "app").starlette(), HERE, cookies=cookies) as client:
        (job,) = client.get("/api/state").json()["jobs"]
        assert job["status"] == "stopped"
        assert client.get("/api/jobs/1/files/results/report.html").status_code == 200
    old = make(tmp_path / "app", hours=-1.0)
    with TestClient(old.starlette(), HERE, cookies=cookies) as client:
        assert client.get("/api/state").json()["photo"] is None
    assert list((tmp_path / "app" / "sessions").iterdir()) == []


def test_a_worker_that_dies_or_hangs_concerns_one_call(tmp_path: Path) -> None:
    """Its functions are those of pictures; a FIFO is a picture that never comes."""
    os.mkfifo(tmp_path / "photo.png")
    worker = Worker()
    try:
        assert asyncio.run(worker.call("generator_sides", GIVEN)) == [32, 16]
        with pytest.raises(InputError, match="is not of the form"):
            asyncio.run(worker.call("generator_sides", ["nonsense"]))
        worker._seconds = 0.5
        with pytest.raises(InputError, match="longer than"):
            asyncio.run(worker.call("look", tmp_path, "photo.png", 1e6))
        assert worker._process is None
    finally:
        worker.close()
