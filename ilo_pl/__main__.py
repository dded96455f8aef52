"""``python -m ilo_pl`` and the command ``ilo-pl``."""

from __future__ import annotations

import os
import signal
from typing import Any

STOPPED = 128 + signal.SIGINT


def main() -> None:
    """Run the command; Ctrl-C ends it from its first moment on without a traceback.

    Imports take most of a second and do not always let an interrupt through; there is nothing to tidy up yet, so
    that the process ends at once. The command takes the signal over when it begins to work.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from ilo_pl.cli import main as run  # after the handler

    run()


def _end(*signalled: Any) -> None:
    os.write(2, b"stopped before the end\n")
    os._exit(STOPPED)


if __name__ == "__main__":
    main()
