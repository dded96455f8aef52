"""Signals that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from ilo_pl.errors import Stopped

# Windows knows no SIGUSR1.
SIGNALS = tuple(s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGUSR1"))


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGUSR1 while it is entered, instead of letting them interrupt a step.

    A second SIGINT interrupts at once.

    Args:
        orphaned: returns whether the process that this one belongs to is gone; that counts as a SIGTERM.
    """

    def __init__(self, orphaned: Callable[[], bool] = lambda: False) -> None:
        self._received: int | None = None
        self._orphaned = orphaned
        self._before: dict[int, Any] = {}

    @property
    def received(self) -> int | None:
        """The signal, or ``None``."""
        if self._received is None and self._orphaned():
            self._received = signal.SIGTERM
        return self._received

    def raise_if_received(self) -> None:
        """Raise :class:`Stopped` if there was a signal."""
        if self.received is not None:
            raise Stopped(self.received)

    def listen(self) -> None:
        """Set the handlers, also where somebody else has set theirs in the meantime."""
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                if handler is not None:  # it was set outside of Python
                    signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == number:
            raise KeyboardInterrupt
        self._received = number
