"""Server-sent events: what there is to show, whenever it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from ilo_pl.app.session import Session, Sessions

MOST, MOST_EACH = 200, 10
PING_SECONDS = 15.0


class Streams:
    """The streams of all pages that are open.

    Args:
        sessions: whose they are.
        ending: set when the server ends, for which it would wait otherwise.
        told: returns what a page is told of a session.
    """

    def __init__(
        self,
        sessions: Sessions,
        ending: asyncio.Event,
        told: Callable[[Session | None], dict[str, Any]],
    ) -> None:
        self._sessions = sessions
        self._ending = ending
        self._told = told
        self._open = 0

    def has_room(self, session: Session) -> bool:
        """Return whether one more page may listen."""
        return self._open < MOST and session.streams < MOST_EACH

    async def of(self, session: Session) -> AsyncIterator[str]:
        """Yield what there is of a session, and again after each change, until it is removed or the server ends."""
        self._open += 1
        session.streams += 1
        try:
            while session in self._sessions.all:
                changed = (
                    session.changed
                )  # before it is looked at: what comes in between is not missed
                session.touch()
                yield f"data: {json.dumps(self._told(session))}\n\n"
                while not await self._news(changed):
                    yield ": still here\n\n"
                if self._ending.is_set():
                    return
            yield f"data: {json.dumps(self._told(None))}\n\n"
        finally:
            self._open -= 1
            session.streams -= 1

    async def _news(self, changed: asyncio.Event) -> bool:
        waits = [asyncio.create_task(event.wait()) for event in (changed, self._ending)]
        done, rest = await asyncio.wait(
            waits, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()
        return bool(done)
