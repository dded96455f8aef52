"""What is done with a batch's results while the next batch is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ilo_pl.runs.entry import Entry, stamps
from ilo_pl.runs.ledger import Ledger


class Finisher:
    """Finishes batches when their files are there, one after the other.

    Args:
        ledger: which batches are done.
    """

    def __init__(self, ledger: Ledger) -> None:
        # One: what it is told to do last is done last.
        self._thread = ThreadPoolExecutor(1, "writing")
        self._ledger = ledger
        self._last: Future[None] | None = None

    def submit(self, write: Callable[[], list[Path]]) -> Future[list[Path]]:
        """Have files written, unless the run folder is gone by then: nothing is made anew in its place."""
        return self._thread.submit(self._write, write)

    def _write(self, write: Callable[[], list[Path]]) -> list[Path]:
        self._ledger.check_there()
        return write()

    def finish(self, unit: int, entry: Entry, written: Sequence[Future[list[Path]]]) -> None:
        """Finish a batch once its files are there; the one before has been by then, so that no more than two wait.

        Raises:
            OutputError: results of the batch before could not be written; this one is finished all the same.
        """
        before, self._last = (
            self._last,
            self._thread.submit(self._finish, unit, entry, tuple(written)),
        )
        if before is not None:
            before.result()

    def _finish(self, unit: int, entry: Entry, written: Sequence[Future[list[Path]]]) -> None:
        paths = [path for files in written for path in files.result()]
        entry.files.update(stamps(self._ledger.folder, paths))
        self._ledger.finish(unit, entry)

    def check(self) -> None:
        """Find out, without waiting, whether something could not be written.

        Raises:
            OutputError: that is so.
        """
        if self._last is not None and self._last.done():
            self._last.result()

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
        self._thread.shutdown()
