"""Pictures of the tiny generator, and a server of S3's language that refuses some requests."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import draw

NAMES = [f"face{i:02d}" for i in range(10)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, one of them damaged."""
    folder = tmp_path_factory.mktemp("cluster") / "in"
    draw(folder, NAMES, seed=5)
    (folder / "face03.png").write_bytes(b"damaged")
    return folder


class Faulty:
    """Refuses a share of the requests, and counts."""

    def __init__(self, app: Any) -> None:
        self.app, self.share, self.refused = app, 0.0, 0
        self._chance = random.Random(0)

    def __call__(self, environ: Any, start: Any) -> Any:
        if self._chance.random() < self.share:
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("400 Bad Request", [("Content-Type", "application/xml")])
            # A code that botocore and s3fs do not try again themselves.
            return [b"<Error><Code>OperationAborted</Code><Message>try again</Message></Error>"]
        return self.app(environ, start)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    pytest.importorskip("s3fs", reason="the extra remote is not installed")
    pytest.importorskip("moto.moto_server", reason="moto[server] is not installed")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faulty = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    import fsspec

    fsspec.filesystem("s3").clear_instance_cache()
    yield faulty
    fsspec.filesystem("s3").clear_instance_cache()
    server.shutdown()
    server.server_close()
    thread.join()
