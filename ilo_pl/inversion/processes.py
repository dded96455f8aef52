"""The same command once more for each further device.

Lightning's own launcher is private; what Lightning needs of one is not: it asks ``strategy.launcher`` for
``launch``, ``kill`` and ``is_interactive_compatible``. So this is a plain object that has them, made of
``subprocess`` and ``sys.orig_argv``, and the command uses it without Lightning.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ilo_pl.errors import TrainerError

T = TypeVar("T")
# Tells a process who started it.
PARENT = "ILO_PL_PARENT"
POLL_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Processes:
    """The further processes of this machine; one that ends does not take the others with it.

    Args:
        count: how many processes the machine is to have, this one among them.
    """

    # Code that was typed in cannot be started again.
    is_interactive_compatible = False

    def __init__(self, count: int) -> None:
        self.count = count
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the others; each finds its number in ``LOCAL_RANK``."""
        share_threads(self.count)
        os.environ[PARENT] = str(os.getpid())
        # A second fit of this script is run by the same processes: it must not start more.
        os.environ["LOCAL_RANK"] = "0"
        command = [sys.executable, *sys.orig_argv[1:]]
        for rank in range(1, self.count):
            _log.info("starting process %d of %d: %s", rank, self.count, command)
            environment = os.environ | {"LOCAL_RANK": str(rank)}
            self._started.append(subprocess.Popen(command, env=environment))

    def wait(self, stopped: Callable[[], object] = lambda: False) -> dict[int, int]:
        """Wait for them, or until ``stopped`` returns something true.

        Returns:
            The exit statuses by rank of those that have failed.
        """
        while any(process.poll() is None for process in self._started) and not stopped():
            time.sleep(POLL_SECONDS)
        statuses = {i + 1: process.poll() for i, process in enumerate(self._started)}
        return {rank: status for rank, status in statuses.items() if status}

    def kill(self, signum: int) -> None:
        """Send those that are left a signal."""
        for process in self._started:
            process.send_signal(signum)

    def launch(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Start the others, run a function here, and wait for all.

        Raises:
            TrainerError: one of them failed, so that the results of its images are missing.
        """
        kwargs.pop("trainer", None)
        self.start()
        try:
            result = function(*args, **kwargs)
            failed = self.wait()
        except KeyboardInterrupt:
            self.kill(signal.SIGTERM)
            raise
        if failed:
            raise TrainerError(
                f"Processes ended with errors (rank: status): {failed}; their images are unfinished."
            )
        return result


def share_threads(processes: int) -> None:
    """Divide the cores that this process may use by processes, unless the user has said how many threads."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    threads = max(1, cores // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def parent() -> int | None:
    """Return the id of the process that started this one for a further device, or ``None``."""
    started = PARENT in os.environ and int(os.environ.get("LOCAL_RANK", "0")) > 0
    return int(os.environ[PARENT]) if started else None


def orphaned() -> bool:
    """Return whether the process that started this one for a further device is gone."""
    started_by = parent()
    return started_by is not None and os.getppid() != started_by
