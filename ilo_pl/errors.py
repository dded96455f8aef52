"""Errors for people: what was wrong, which value, which choices, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IloError(Exception):
    """Base of every error that a user can cause and mend.

    The command line prints it without a traceback and exits with status 2.

    Args:
        what: one sentence that says what was wrong and with which value.
        choices: the values that would have been accepted, if they can be listed.
        hint: what to do next.
    """

    def __init__(self, what: str, *, choices: Iterable[str] = (), hint: str = "") -> None:
        self.what = what
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


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``choices`` spelled most like ``name``, best first."""
    return difflib.get_close_matches(name, list(choices), n=count, cutoff=0.4)


def unknown(kind: str, name: str, choices: Iterable[str]) -> ConfigurationError:
    """Return the error for a ``name`` that is none of ``choices``, with the nearest ones."""
    options = sorted(choices)
    close = nearest(name, options)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return ConfigurationError(f"There is no {kind} {name!r}.", choices=options, hint=hint)
