"""Downloads against a server of this machine that can stop in the middle."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ilo_pl.errors import WeightsError
from ilo_pl.weights.download import cache_dir, fetch
from ilo_pl.weights.load import locate
from ilo_pl.weights.registry import WeightsEntry, registry

DATA = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; at most ``limit`` bytes of it a request, where that is set."""

    limit: int | None = None
    ranges = True
    seen: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Handler.seen.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and Handler.ranges else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(DATA[start:][: Handler.limit])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.limit, Handler.ranges, Handler.seen = None, True, []
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/weights.pkl"
    server.shutdown()
    thread.join()
    server.server_close()


def entry(url: str, sha256: str | None = None) -> WeightsEntry:
    right = hashlib.sha256(DATA).hexdigest()
    return WeightsEntry("net", "net.pkl", "test", "CC0", right if sha256 is None else sha256, url)


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(url: str, tmp_path: Path, ranges: bool) -> None:
    Handler.limit, Handler.ranges = 1000, ranges
    with pytest.raises(WeightsError, match="after 1000 of 10240 bytes"):
        fetch(entry(url), tmp_path)
    assert not (tmp_path / "net.pkl").exists()
    Handler.limit = None
    assert fetch(entry(url), tmp_path).read_bytes() == DATA
    assert Handler.seen == [None, "bytes=1000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["net.pkl"]


def test_a_finished_part_needs_no_more_bytes(url: str, tmp_path: Path) -> None:
    (tmp_path / "net.pkl.part").write_bytes(DATA)
    assert fetch(entry(url), tmp_path).read_bytes() == DATA


def test_the_wrong_file_is_refused_and_deleted(url: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected 0000"):
        fetch(entry(url, "0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.pkl").write_bytes(b"changed in the cache")
    with pytest.raises(WeightsError, match="deleted"):
        fetch(entry(url), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_cache_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(DATA)
    assert fetch(entry("http://127.0.0.1:9/none"), tmp_path).read_bytes() == DATA
    (tmp_path / "net.pkl").unlink()
    with pytest.raises(WeightsError, match="could not be downloaded"):
        fetch(entry("http://127.0.0.1:9/none"), tmp_path)


def test_without_a_sha256_nothing_is_downloaded(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match="does not know its sha256"):
        fetch(entry(url, ""), tmp_path)
    assert Handler.seen == []
    monkeypatch.setenv("ILO_PL_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    with pytest.raises(WeightsError, match=r"ffhq-1024x1024\.pkl"):
        locate(Path("stylegan2-ffhq-1024"))


def test_every_entry_says_what_it_is() -> None:
    for known in registry().values():
        assert known.licence and known.source
        assert known.sha256 or known.url.startswith("https://")
        assert known.file in (known.url or known.file)
