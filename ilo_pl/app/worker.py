"""A process that looks at pictures for the server.

Files of strangers are decoded there: one at a time, so that memory is bounded however many people ask, and a
decoder that crashes or never ends takes that process along and not the server.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from ilo_pl.errors import IloError, InputError

MOST_SECONDS = 180.0


class Worker:
    """Calls functions in a process of its own, one after the other; it is started when it is needed.

    Args:
        seconds: how long one may take.
    """

    def __init__(self, seconds: float = MOST_SECONDS) -> None:
        self._seconds = seconds
        self._one = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._ours: Connection | None = None

    async def call(self, function: str, *arguments: Any) -> Any:
        """Return what a function of :mod:`ilo_pl.app.pictures` returns for arguments that can be pickled.

        Raises:
            InputError: it raised an :class:`IloError`, took too long, or its process died.
        """
        return await asyncio.to_thread(self._call, function, arguments)

    def _call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        with self._one:
            connection = self._started()
            try:
                connection.send((function, arguments))
                if not connection.poll(self._seconds):
                    raise InputError(f"This took longer than {self._seconds:.0f} seconds.")
                good, value = connection.recv()
            except (EOFError, OSError):
                self._end()
                raise InputError(
                    "The process that reads pictures ended while it looked at this one.",
                    hint="Save the picture as JPEG or PNG with another program and try again.",
                ) from None
            except InputError:
                self._end()
                raise
        if not good:
            raise InputError(value)
        return value

    def _started(self) -> Connection:
        if self._ours is None or self._process is None or not self._process.is_alive():
            # Forking a process that has threads is not safe.
            context = multiprocessing.get_context("spawn")
            self._ours, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        return self._ours

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._ours is not None:
            self._ours.close()
        self._process = self._ours = None

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
        with self._one:
            self._end()


def _serve(connection: Connection) -> None:
    """Call what is asked for until the server is gone."""
    # Ctrl-C in the terminal is for the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from ilo_pl.app import pictures  # torch, which the server itself can do without

    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, getattr(pictures, function)(*arguments)
        except IloError as error:
            answer = False, str(error)
        except Exception as error:  # whatever it is, it concerns this call alone
            answer = False, f"This could not be done: {type(error).__name__}: {error}"
        try:
            connection.send(answer)
        except OSError:
            return
