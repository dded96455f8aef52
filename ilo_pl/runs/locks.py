"""Who is at which batch: byte n of one file is locked by the process that searches batch n.

A lock ends with its process, however that ends. Locks of whole files, as the package filelock has them, would
be 10,000 files for 10,000 batches; ranges of bytes are POSIX's own.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ilo_pl.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where a run has one process
    fcntl = None  # type: ignore[assignment]

# A file system that knows no locks; one process needs none.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Locks:
    """The locks of a run's batches.

    Args:
        path: their file, made when the first is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self, unit: int, *, alone: bool) -> bool:
        """Lock a batch unless another process has it, and return whether it is locked.

        Args:
            unit: the batch.
            alone: whether the run has one process, which can do without.

        Raises:
            OutputError: the file system cannot lock files, and there are several processes.
        """
        try:
            if self._file is None:
                # Once: to close any handle of the file would give up all locks.
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no locks of POSIX")
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, unit)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN) and self._file is not None:
                return False
            if alone and error.errno in NO_LOCKS:
                return True
            raise OutputError(
                f"{self._path} cannot be locked: {error}.",
                hint="Several processes need a file system with locks; give another folder, or "
                "trainer.devices=1.",
            ) from error
        return True

    def release(self, unit: int) -> None:
        """Unlock a batch."""
        if self._file is not None and fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, unit)

    def close(self) -> None:
        """Give up all locks and remove the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._path.unlink(missing_ok=True)
