"""The loss of one image by step, as lines of a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 24, 34
MOST_TICKS = 5
LETTER = 7
# Below this a loss is rounding: a proximal stage that begins at what was measured explains it.
LEAST_LOSS = 1e-12
# A drawing of this width shows no more.
MOST_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """A drawing of 480 x 210 units.

    Args:
        lines: the points of each stage's line, as SVG has them.
        switches: where each stage begins, and what it is.
        across, upwards: marks of the axes: where, and what they say.
        label: the same in words.
    """

    lines: tuple[str, ...]
    switches: tuple[tuple[float, str], ...]
    across: tuple[tuple[float, str], ...]
    upwards: tuple[tuple[float, str], ...]
    label: str


@dataclass(frozen=True)
class _Step:
    number: int
    loss: float
    stage: str


def loss_curve(rows: Sequence[Mapping[str, str]]) -> Curve | None:
    """Draw losses over steps, on a logarithmic scale, with the steps at which stages begin.

    Args:
        rows: those of an image's table in ``log/losses``. Losses that are not finite, or 0 but for rounding, are left
            out.

    Returns:
        The drawing, or ``None`` where there is nothing to draw.

    Raises:
        ValueError, KeyError: it is no such table.
    """
    steps = [s for s in map(_step, rows) if math.isfinite(s.loss) and s.loss > LEAST_LOSS]
    if not steps:
        return None
    last = max(s.number for s in steps)
    logs = [math.log10(s.loss) for s in steps]
    low, high = math.floor(min(logs) * 10) / 10, math.ceil(max(logs) * 10) / 10
    high = max(high, low + 0.1)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / last, 1)

    def y(log: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - log) / (high - low), 1)

    stages = [(name, list(of)) for name, of in groupby(steps, key=lambda s: s.stage)]
    return Curve(
        lines=tuple(
            " ".join(f"{x(s.number)},{y(math.log10(s.loss))}" for s in _thinned(of))
            for _, of in stages
        ),
        switches=tuple(_spaced([(x(of[0].number - 1), name) for name, of in stages])),
        across=tuple((x(step), f"{step}") for step in _steps(last)),
        upwards=tuple((y(log), f"{10**log:.2g}") for log in _levels(low, high)),
        label=_words(steps, stages),
    )


def _step(row: Mapping[str, str]) -> _Step:
    turn = int(row["round"])
    stage = f"{int(row['stage']) + 1}" + (f".{turn + 1}" if turn else "")
    return _Step(int(row["step"]), float(row["loss"]), stage)


def _thinned(steps: Sequence[_Step]) -> Sequence[_Step]:
    """Return some of the steps, the first and the last among them."""
    stride = math.ceil(len(steps) / MOST_POINTS)
    return [*steps[:-1:stride], steps[-1]]


def _spaced(switches: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """Yield where stages begin; what would be written over a name is not."""
    free = 0.0
    for number, (at, name) in enumerate(switches):
        yield at, name if at >= free else ""
        if at >= free:
            # "stage" stands before the first.
            free = at + LETTER * (len(name) + (1 if number else 7))


def _steps(last: int) -> list[int]:
    """Return round numbers from 0 to a number of steps."""
    size = 10 ** math.floor(math.log10(max(last, 1)))
    unit = next(u for f in (0.2, 0.5, 1, 2) if last / (u := max(1, size * f)) <= MOST_TICKS)
    return list(range(0, last + 1, int(unit)))


def _levels(low: float, high: float) -> list[float]:
    """Return logarithms to mark: powers of ten, or fractions of one where there are few."""
    for unit in (2, 1, 0.5, 0.2, 0.1, 0.05):
        marks = [n * unit for n in range(math.ceil(low / unit), math.floor(high / unit) + 1)]
        if len(marks) >= 3:
            return marks[:: math.ceil(len(marks) / (MOST_TICKS + 1))]
    return [low, high]


def _words(steps: Sequence[_Step], stages: Sequence[tuple[str, Sequence[_Step]]]) -> str:
    begun = [f"stage {name} from step {of[0].number}" for name, of in stages]
    ends = f"{steps[0].loss:.3g} at step {steps[0].number} to {steps[-1].loss:.3g} at step {steps[-1].number}"
    return f"Loss by step, from {ends}; {', '.join(begun)}."
