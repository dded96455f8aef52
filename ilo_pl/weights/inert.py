"""Inert values of a weights file, and what reading one may cost.

Keys of dictionaries and sets are found equal and hashed, values are described in messages: both are done
here for values that an attacker built, of which Python's own ways would never return.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Real files of networks have up to two hundred thousand.
MAX_OPCODES = 1_000_000
# More bytes than the file has are needed by nothing that is real, but small things around them.
SLACK = 1 << 16
MAX_KEY_PARTS = 16
# Python hashes whole numbers modulo 2^61 - 1: larger ones can be made to collide.
MAX_KEY_BITS = 60
TEXT = 120


class RefusedError(Exception):
    """The pickle asks for something that no weights file needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A name of the file: two texts."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """The name as tables have it."""
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:TEXT]


class Opaque:
    """Stands for an object of the file that is not looked at."""

    __slots__ = ()

    def __init__(self, *arguments: object) -> None: ...


class Stateful(abc.ABC):
    """An object that takes what the file says of its state."""

    @abc.abstractmethod
    def take_state(self, state: object) -> None:
        """Take it, or raise :class:`RefusedError`."""


Table = Mapping[tuple[str, str], Callable[..., Any]]
"""What a name builds of its arguments."""


class Budget:
    """What reading one file may cost.

    Args:
        size: bytes of the file; eight times as many may be made in reading it, because numbers can be a
            text, then bytes, then a storage that is read twice, then tensors that share it.
        opcodes: steps.
    """

    def __init__(self, size: int, opcodes: int = MAX_OPCODES) -> None:
        self._bytes = 8 * size + SLACK
        self._opcodes = opcodes

    def step(self) -> None:
        """Count one opcode."""
        self._opcodes -= 1
        if self._opcodes < 0:
            raise RefusedError("more than a million instructions")

    def spend(self, count: int) -> None:
        """Count bytes that are made."""
        self._bytes -= count
        if self._bytes < 0:
            raise RefusedError("numbers that are larger than the file")


def brief(value: object, depth: int = 2) -> str:
    """Describe a value of a file in at most 120 characters, whatever it is."""
    if isinstance(value, str):
        return repr(value[:TEXT])[:TEXT]
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 64 else "a very large number"
    if isinstance(value, (list, tuple, dict)) and depth:
        few = list(value.items() if isinstance(value, dict) else value)[:4]
        pairs = isinstance(value, dict)
        inner = [
            f"{brief(v[0], 0)}: {brief(v[1], depth - 1)}" if pairs else brief(v, depth - 1)
            for v in few
        ]
        more = ", ..." if len(value) > len(few) else ""
        return f"({', '.join(inner)}{more})"[:TEXT]
    return f"a {type(value).__name__}"


def is_key(value: object, parts: int = MAX_KEY_PARTS) -> bool:
    """Whether a value can be a key: found equal and hashed at little cost."""
    if isinstance(value, tuple):
        return len(value) <= parts and all(is_key(part, 0) for part in value)
    if isinstance(value, int):
        return value.bit_length() <= MAX_KEY_BITS
    return value is None or isinstance(value, (str, float, bytes))


def as_pairs(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """Build a dictionary of pairs, with keys that cost little."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(p, (list, tuple)) and len(p) == 2 and is_key(p[0]) for p in pairs
    ):
        raise RefusedError("a dictionary that is not made of names and values")
    return {p[0]: p[1] for p in pairs}


def as_set(items: Iterable[Any] = ()) -> set[Any]:
    """Build a set of what costs little to compare."""
    if not isinstance(items, (list, tuple, set)) or not all(map(is_key, items)):
        raise RefusedError("a set of more than names and numbers")
    return set(items)
