"""``ilo-pl demo``: the shipped portrait from little, ILO beside the simplest method for each problem."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.console import Console

from ilo_pl.config.compose import is_outside, load_config
from ilo_pl.config.overrides import override_texts, read_overrides
from ilo_pl.config.run import RUN_PATHS
from ilo_pl.config.saved import is_run
from ilo_pl.errors import ConfigurationError
from ilo_pl.evaluation.page import NAME, link, write_page
from ilo_pl.evaluation.report import row_of, scores_table, write_grid
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import read_table
from ilo_pl.paper.comparison import Compared, comparison_page
from ilo_pl.paper.sweep import not_of_method
from ilo_pl.runs.report import leave, legible
from ilo_pl.runs.run import check, run

CHOSEN = ("input", "reference", "method", "task", "operator", "noise")


@dataclass(frozen=True)
class Problem:
    """What is measured of the portrait, and what a user without a generator would do.

    Args:
        title: of its table.
        name: of its folder.
        keys: of its task.
        baseline: a method of ``configs/method``.
    """

    title: str
    name: str
    keys: tuple[str, ...]
    baseline: str


PROBLEMS = (
    Problem(
        "One pixel in a hundred",
        "one_percent",
        ("task=random_inpainting", "operator.fraction=0.01"),
        "gaussian_filling",
    ),
    Problem(
        "A box over the mouth",
        "box",
        ("task=inpainting", "operator.box=[330,640,700,830]"),
        "gaussian_filling",
    ),
    Problem(
        "Super-resolution from 64 x 64",
        "super_resolution",
        ("task=super_resolution", "operator.factor=16"),
        "bicubic",
    ),
)


def portrait() -> Path:
    """Return the path of the shipped portrait (NASA, Eileen Collins, public domain), 1024 x 1024."""
    return Path(str(resources.files("ilo_pl") / "paper" / "assets" / "portrait.png"))


def run_demo(overrides: Sequence[str], console: Console) -> None:
    """Run the problems, draw the pictures side by side and print the figures.

    Args:
        overrides: ``output=DIR`` and any other key but those of the measurements and ``method``; keys of a
            search do not reach the baselines.
        console: where the figures are printed.

    Raises:
        IloError: a key is wrong, a package of the baselines is missing, or the output folder cannot be used.
    """
    output, rest = _read(overrides)
    output.check()
    started = time.monotonic()
    for problem in PROBLEMS:  # before the first of them takes its time
        for method in (problem.baseline, "ilo"):
            check(load_config(_keys(problem, method, output, rest)))
    rows = [_run(problem, output, rest, console) for problem in PROBLEMS]
    grid = write_grid(output, rows)
    console.print(f"Pictures: {grid}", markup=False)
    if load_config(_keys(PROBLEMS[0], "ilo", output, rest)).report:
        leave(output, report_demo)
        console.print(f"To look through: {output.path / NAME}", markup=False)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


def is_demo(path: Path) -> bool:
    """Return whether a folder holds what the demo writes."""
    return any(is_run(path / problem.name / "ilo") for problem in PROBLEMS)


def report_demo(folder: RunFolder) -> Path:
    """Write the demo's ``report.html``, and return its path.

    Raises:
        IloError: something in the folder is damaged, or the page cannot be written.
    """
    with legible(folder):
        compared = _compared(folder)
    names = [f"{p.name}/{m}/report.html" for p in PROBLEMS for m in (p.baseline, "ilo")]
    links = [(link(n), n) for n in names if (folder.path / n).exists()]
    return write_page(folder, comparison_page(folder, "ilo-pl demo", compared, links=links))


def _compared(folder: RunFolder) -> list[Compared]:
    """Return the problems that were solved so far."""
    compared = []
    for problem in PROBLEMS:
        runs = {m: RunFolder(folder.path / problem.name / m) for m in (problem.baseline, "ilo")}
        runs = {m: run for m, run in runs.items() if (run.path / "metrics.csv").exists()}
        runs = {method.replace("_", " "): run for method, run in runs.items()}
        rows = [{"image": problem.title, "method": m, **_scores(run)} for m, run in runs.items()]
        if runs:
            compared.append(Compared(problem.title, portrait().stem, runs, portrait(), rows))
    return compared


def _scores(run: RunFolder) -> dict[str, str]:
    """Return the scores of a run of one image, and its seconds."""
    tables = [read_table(run.path / name) for name in ("metrics.csv", "seconds.csv")]
    return {k: v for table in tables for row in table for k, v in row.items() if k != "id"}


def _run(
    problem: Problem, output: RunFolder, rest: Sequence[str], console: Console
) -> Mapping[str, Path]:
    """Run both methods on a problem and print their figures; return the pictures by label."""
    groups, shown = [], {}
    for method in (problem.baseline, "ilo"):
        config = load_config(_keys(problem, method, output, rest))
        groups.append((method, run(config, Console(stderr=True), method)))
        shown[method] = row_of(RunFolder(Path(config.output)), portrait().stem, portrait())
    console.print(scores_table(problem.title, groups))
    ilo = shown["ilo"]
    row = {"truth": ilo["truth"], problem.title: ilo["measurements"]}
    return row | {
        method.replace("_", " "): pictures["result"] for method, pictures in shown.items()
    }


def _keys(problem: Problem, method: str, output: RunFolder, rest: Sequence[str]) -> list[str]:
    image = str(portrait())
    folder = output.path / problem.name / method
    paths = {"input": image, "reference": image, "output": str(folder)}
    own = not_of_method(rest) if is_outside(method) else rest
    return [*problem.keys, f"method={method}", *override_texts(paths), *own]


def _read(overrides: Sequence[str]) -> tuple[RunFolder, list[str]]:
    """Return the folder to write, and the keys of all runs."""
    given = read_overrides(overrides, RUN_PATHS)
    taken = [
        g.key
        for g in given
        if g.key.partition(".")[0] in CHOSEN and not g.key.startswith("method.")
    ]
    if taken:
        raise ConfigurationError(
            f"The demo chooses {taken[0]} itself.",
            hint="Use ilo-pl invert for your own images, tasks and methods.",
        )
    named = [g.value for g in given if g.key == "output"]
    rest = [g.text for g in given if g.key != "output"]
    return RunFolder(Path(str(named[-1] if named else "demo"))), rest
