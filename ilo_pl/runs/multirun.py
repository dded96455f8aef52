"""``ilo-pl invert --multirun``: a run for every combination of values, each in a folder of its own."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ilo_pl.config.compose import load_config
from ilo_pl.config.differences import changes, other_settings
from ilo_pl.config.overrides import expanded, read_overrides, value_text
from ilo_pl.config.run import RUN_PATHS, RunConfig
from ilo_pl.config.saved import is_run, load_run_config
from ilo_pl.errors import ConfigurationError, IloError, OutputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import read_table, write_table
from ilo_pl.runs.ledger import FAILURES
from ilo_pl.runs.run import run

TABLE = "multirun.csv"
# How a run ended.
DONE, SOME_FAILED, FAILED = "done", "some images failed", "failed"
MAX_RUNS = 10_000
LONGEST = 120


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its folder below the sweep's, the values that it has, and its configuration."""

    name: str
    values: Mapping[str, str]
    config: RunConfig


def plan(texts: Sequence[str]) -> tuple[RunFolder, list[Member]]:
    """Return a sweep's folder and its runs; all are composed, so that a slip is found before any run.

    Args:
        texts: ``key=value`` of a run; ``key=a,b`` sweeps. ``output`` is the sweep's folder.

    Raises:
        ConfigurationError: a key or a value cannot be used, or nothing is swept.
    """
    listed = expanded(texts, RUN_PATHS)
    swept = [key for key, values in listed.items() if len(values) > 1]
    outputs = listed.pop("output", None)
    if outputs is None or len(outputs) > 1:
        raise ConfigurationError(
            "output must be given, once: the folder of the sweep, in which each run has its own.",
            hint="For example: ilo-pl invert --multirun input=faces/ method=ilo,csgm output=sweep",
        )
    if not swept:
        raise ConfigurationError(
            "--multirun, and no key has several values.",
            hint="For example method=ilo,csgm or seed=range(0,4); without --multirun it is one run.",
        )
    count = math.prod(map(len, listed.values()))
    if count > MAX_RUNS:
        raise ConfigurationError(f"These are {count} runs; at most {MAX_RUNS} can be planned.")
    folder = RunFolder(Path(str(read_overrides(outputs, RUN_PATHS)[0].value)))
    members: dict[str, Member] = {}
    for chosen in itertools.product(*listed.values()):
        values = {k: _value(t) for k, t in zip(listed, chosen, strict=True) if k in swept}
        name = _name(values)
        if name in members:
            raise ConfigurationError(f"{_said(values)} is given twice.")
        output = f"output={value_text(str(folder.path / name))}"
        members[name] = Member(name, values, load_config([*chosen, output]))
    return folder, list(members.values())


def run_all(texts: Sequence[str], console: Console, progress: Console) -> bool:
    """Run a sweep and write ``multirun.csv``, a row for each run, after each run.

    A run that fails is a row; the others go on. With ``resume=true`` runs that are done stay as they are.

    Args:
        texts: as for :func:`plan`.
        console: is told where the table is.
        progress: where progress is drawn.

    Returns:
        Whether all runs are done, with all their images.

    Raises:
        IloError: a configuration or the folder cannot be used; nothing was run then.
        Stopped: a signal ended it; the table says what is done.
    """
    folder, members = plan(texts)
    resumed = members[0].config.resume
    if not resumed:
        folder.check()
    elif any(not member.config.resume for member in members):
        raise ConfigurationError("resume is of the whole sweep; give it one value.")
    known = _known(folder) if resumed else {}
    rows: list[dict[str, object]] = []
    for number, member in enumerate(members):
        row = known.get(member.name)
        if row is None or not _is_done(folder, member, row):
            label = f"{number + 1}/{len(members)} {member.name}"
            row = _run_one(folder, member, progress, label)
        rows.append(row)
        later = [known[m.name] for m in members[number + 1 :] if m.name in known]
        write_table(folder, TABLE, [*rows, *later])
    good = sum(row["status"] == DONE for row in rows)
    text = f"{good} of {len(rows)} runs are done: see {folder.path / TABLE}"
    console.print(text, markup=False, soft_wrap=True)
    return good == len(rows)


def _run_one(folder: RunFolder, member: Member, console: Console, label: str) -> dict[str, object]:
    """Run one; what is wrong with it becomes its row."""
    config, place = member.config, folder.path / member.name
    row: dict[str, object] = {"run": member.name, **member.values, "status": DONE, "error": ""}
    if config.outside and config.resume:
        # These begin anew: they take seconds and keep no state.
        shutil.rmtree(folder.inside(member.name), ignore_errors=True)
        config = config.model_copy(update={"resume": False})
    try:
        run(config, console, label)
    except OutputError:
        raise  # a full disk is full for the others too
    except IloError as error:
        row |= {"status": FAILED, "error": str(error).replace("\n", " ")}
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        row |= {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
    if row["status"] == FAILED:
        console.print(f"{label} failed: {row['error']}", markup=False, soft_wrap=True)
    elif (place / FAILURES).exists():
        row["status"] = SOME_FAILED
    return row | dict(_means(place))


def _means(place: Path) -> Iterator[tuple[str, object]]:
    """Yield how many images a run has results of, and the means of its scores."""
    for name in ("metrics.csv", "seconds.csv"):
        table = read_table(place / name) if (place / name).is_file() else []
        if name == "metrics.csv":
            yield "images", len(table)
        for column in dict.fromkeys(c for row in table for c in row if c != "id"):
            numbers = [float(row[column]) for row in table if row[column]]
            if numbers:
                yield column, statistics.fmean(numbers)


def _known(folder: RunFolder) -> dict[str, dict[str, object]]:
    """Return the rows of the sweep that is in a folder."""
    path = folder.path / TABLE
    return {row["run"]: dict(row) for row in read_table(path)} if path.is_file() else {}


def _is_done(folder: RunFolder, member: Member, row: Mapping[str, object]) -> bool:
    """Whether a run has ended, and with this configuration.

    Raises:
        ConfigurationError: it has another.
    """
    place = folder.path / member.name
    if row["status"] != DONE or not is_run(place):
        return False
    before, now = (c.model_dump() for c in (load_run_config(place), member.config))
    different = changes(before, now)
    if different and not member.config.allow_changes:
        raise other_settings(place, different)
    return not different


def _name(values: Mapping[str, str]) -> str:
    """Return the name of a run's folder: its swept keys and values, as files are named everywhere."""
    said = "_".join(f"{key}-{value}" for key, value in values.items())
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", said).strip("-.")
    if len(plain) <= LONGEST and re.fullmatch(r"[A-Za-z0-9._+-]+", said):
        return plain
    return f"{plain[:LONGEST]}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _said(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _value(text: str) -> str:
    return text.partition("=")[2]
