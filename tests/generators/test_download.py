"""Downloads against a server of this machine that can stop in the middle."""

from __future__ import annotations

import hashlib
import sys
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
    """Serves DATA; at most ``limit`` bytes of it, where that is set."""

    limit: int | None = None
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Handler.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[: Handler.limit])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.limit, Handler.seen = None, []
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


def test_an_interrupted_download_leaves_nothing_and_is_tried_again(
    url: str, tmp_path: Path
) -> None:
    Handler.limit = 1000
    with pytest.raises(WeightsError, match="could not be had"):
        fetch(entry(url), tmp_path)
    assert not list(tmp_path.iterdir())
    Handler.limit = None
    assert fetch(entry(url), tmp_path).read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["net.pkl"]
    seen = len(Handler.seen)
    assert fetch(entry(url), tmp_path).read_bytes() == DATA
    assert len(Handler.seen) == seen


def test_the_wrong_file_is_refused_and_replaced(url: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="0000"):
        fetch(entry(url, "0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.pkl").write_bytes(b"changed in the cache")
    assert fetch(entry(url), tmp_path).read_bytes() == DATA
    (tmp_path / "net.pkl").write_bytes(b"changed in the cache")
    with pytest.raises(WeightsError, match="0000"):
        fetch(entry(url, "0" * 64), tmp_path)


def test_a_file_of_the_cache_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(DATA)
    assert fetch(entry("http://127.0.0.1:9/none"), tmp_path).read_bytes() == DATA
    (tmp_path / "net.pkl").unlink()
    with pytest.raises(WeightsError, match="could not be had"):
        fetch(entry("http://127.0.0.1:9/none"), tmp_path)


def test_without_a_sha256_nothing_is_downloaded(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match="does not know its sha256"):
        fetch(entry(url, ""), tmp_path)
    assert Handler.seen == []
    monkeypatch.setenv("ILO_PL_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ILO_PL_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_dir() == tmp_path / "ilo_pl"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_dir() == Path.home() / ".cache" / "ilo_pl"
    with pytest.raises(WeightsError, match=r"ffhq-1024x1024\.pkl"):
        locate(Path("stylegan2-ffhq-1024"))


def test_every_entry_says_what_it_is() -> None:
    for known in registry().values():
        assert known.licence and known.source
        assert known.sha256 or known.url.startswith("https://")
        assert known.file in (known.url or known.file)
