"""Errors for people: what was wrong, which value, which choices, what to do next."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

MOST_SHOWN = 200
LONGEST = 4000


class IloError(Exception):
    """Base of every error that a user can cause and mend.

    The command line prints it without a traceback and exits with status 2.

    Args:
        what: one sentence that says what was wrong and with which value.
        choices: the values that would have been accepted, if they can be listed.
        hint: what to do next.
    """

    def __init__(self, what: str, *, choices: Iterable[str] = (), hint: str = "") -> None:
        # A value of a million characters is no help.
        self.what = what = what if len(what) <= LONGEST else f"{what[:LONGEST]}..."
        self.choices = tuple(choices)
        self.hint = hint
        lines = [what]
        if self.choices:
            lines.append(f"Choices: {', '.join(self.choices)}.")
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))


class ConfigurationError(IloError):
    """A configuration key or a specification has a value that cannot be used."""


class InputError(IloError):
    """An input file, image, mask or measurement cannot be used."""


class OutputError(IloError):
    """Results cannot be written where they were asked for."""


class WeightsError(IloError):
    """A weights file is missing, damaged or not what its name says."""


class TrainerError(IloError):
    """A Lightning Trainer was set up in a way that would make results silently wrong."""


# Exit status of a command that is done but for some files, which it names.
SOME_FAILED = 3


class Stopped(Exception):  # noqa: N818
    """A signal ended a run between two steps; what it had is on the disk.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"stopped by signal {signum}")


def let_interrupts_unwind() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from here on, so that what is half written is tidied up.

    Until a command begins to work, Ctrl-C ends its process at once (``ilo_pl/__main__.py``).
    """
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler) and handler is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def shown(value: object) -> str:
    """Return a value as errors show it, however long it is."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"  # Python does not write them out
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``choices`` spelled most like ``name``, best first."""
    return difflib.get_close_matches(name, list(choices), n=count, cutoff=0.4)


def unknown(kind: str, name: str, choices: Iterable[str]) -> ConfigurationError:
    """Return the error for a ``name`` that is none of ``choices``, with the nearest ones."""
    options = sorted(choices)
    close = nearest(name, options)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return ConfigurationError(f"There is no {kind} {shown(name)}.", choices=options, hint=hint)
