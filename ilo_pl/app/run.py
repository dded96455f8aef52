"""From the options of ``ilo-pl app`` to a server that runs."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import uvicorn
from rich.console import Console

from ilo_pl.app.desk import Settings
from ilo_pl.app.guard import is_loopback
from ilo_pl.app.server import App
from ilo_pl.app.session import Sessions
from ilo_pl.app.worker import Worker
from ilo_pl.config.overrides import read_overrides
from ilo_pl.errors import ConfigurationError, let_interrupts_unwind

GRACE_SECONDS = 3
MOST_CONNECTIONS = 400
MOST_HEAD = 1 << 14
# What the page or the app itself says.
NOT_GIVEN = ("input", "output", "reference", "resume", "task", "operator", "simulate", "samples")


@dataclass(frozen=True)
class Asked:
    """The options, as :func:`ilo_pl.app.command.app` explains them."""

    keys: tuple[str, ...]
    host: str
    port: int
    names: tuple[str, ...]
    token: bool | None
    folder: Path | None
    hours: float
    megabytes: float
    megapixels: float


def serve(asked: Asked, console: Console) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        IloError: an option cannot be used, or the port is taken.
    """
    let_interrupts_unwind()
    _check_keys(asked.keys)
    if asked.token is False and not is_loopback(asked.host):
        raise ConfigurationError(
            f"Without a token everybody who reaches {asked.host} could use this machine.",
            hint="Leave --no-token out, or listen at 127.0.0.1.",
        )
    folder = asked.folder or Path(platformdirs.user_cache_dir("ilo_pl", False)) / "app"
    Sessions(folder / "sessions", asked.hours).load()  # what cannot be written is told before
    listening = _listen(asked.host, asked.port)
    port = int(listening.getsockname()[1])
    needs = asked.token or not is_loopback(asked.host)
    token = secrets.token_urlsafe(32) if needs else None
    worker = Worker()
    sides = tuple(asyncio.run(worker.call("generator_sides", asked.keys)))
    settings = Settings(
        folder.absolute(),
        asked.host,
        port,
        token,
        asked.names,
        asked.keys,
        sides,
        asked.megabytes,
        asked.megapixels,
        asked.hours,
    )
    server = Server(App(settings, worker))
    console.print(f"Open {_address(settings)}", markup=False, soft_wrap=True, highlight=False)
    kept = f"Photos and results are kept in {settings.folder}. Ctrl-C ends."
    console.print(kept, markup=False, soft_wrap=True, highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


class Server(uvicorn.Server):
    """Ends the streams of events first, for which it would wait.

    Args:
        app: what it serves.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app.starlette(),
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=MOST_HEAD,
                http="h11",
                ws="none",
                proxy_headers=False,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._app.ending.set()
        await super().shutdown(sockets)


def _check_keys(keys: tuple[str, ...]) -> None:
    """Refuse keys that each search has from the page.

    Raises:
        ConfigurationError: one of them was given.
    """
    for assignment in read_overrides(keys):
        if assignment.key.partition(".")[0] in NOT_GIVEN:
            raise ConfigurationError(
                f"{assignment.key} is what the page asks for; it cannot be given for all searches.",
                hint="Keys such as generator=, compile=, trainer.accelerator= or method.steps= can be.",
            )


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: there is no such address, or its port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigurationError(
            f"{host} port {port} cannot be listened at: {error.strerror or error}.",
            hint="Another app may run there: --port 0 takes a free one.",
        ) from None


def _address(settings: Settings) -> str:
    """Return the address to open."""
    anywhere = settings.host in ("0.0.0.0", "::")
    host = socket.gethostname() if anywhere else settings.host
    shown = f"[{host}]" if ":" in host else host
    token = f"?token={settings.token}" if settings.token else ""
    return f"http://{shown}:{settings.port}/{token}"
