"""What is done with a batch's results while the next batch is searched."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ilo_pl.runs.entry import Entry, stamps
from ilo_pl.runs.ledger import Ledger


class Finisher:
    """Finishes batches when their files are there, one after the other.

    Args:
        ledger: which batches are done.

    Attributes:
        thread: does what it is told, in that order; files are written by it too.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.thread = ThreadPoolExecutor(1, "writing")
        self._ledger = ledger
        self._last: Future[None] | None = None

    def finish(self, unit: int, entry: Entry, written: Sequence[Future[list[Path]]]) -> None:
        """Finish a batch once its files are there; the one before has been by then, so that no more than two wait.

        Raises:
            OutputError: results of the batch before could not be written.
        """
        self.wait()
        self._last = self.thread.submit(self._finish, unit, entry, tuple(written))

    def _finish(self, unit: int, entry: Entry, written: Sequence[Future[list[Path]]]) -> None:
        paths = [path for files in written for path in files.result()]
        entry.files.update(stamps(self._ledger.folder, paths))
        self._ledger.finish(unit, entry)

    def wait(self) -> None:
        """Wait until everything is finished.

        Raises:
            OutputError: results could not be written.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Let what was searched be finished, whatever has happened since."""
        self.thread.shutdown()
