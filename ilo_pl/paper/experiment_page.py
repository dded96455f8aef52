"""``report.html`` of an experiment, from its folder alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ilo_pl.config.saved import read_yaml
from ilo_pl.errors import ConfigurationError, IloError
from ilo_pl.evaluation.page import Page, link, write_page
from ilo_pl.evaluation.thumbnails import file_uri
from ilo_pl.io.find import find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import read_table
from ilo_pl.paper.comparison import Compared, comparison_page
from ilo_pl.paper.experiment_file import MOST_OF_RECORD, RECORD, Experiment, load_experiment
from ilo_pl.runs.report import legible

FILES = ("results.csv", "trace.csv", "figure.png", "grid.png", RECORD)
# Columns that say the same in every row, or by another name.
COMMON = ("experiment", "key", "level", "seed")
Row = Mapping[str, str]


def report_experiment(folder: RunFolder) -> Path:
    """Write the report of an experiment, finished or not, and return its path.

    Raises:
        IloError: it has no results yet, something in it is damaged, or the page cannot be written.
    """
    hint = "Give the folder that ilo-pl experiment wrote."
    record = read_yaml(folder.path / RECORD, "the record of an experiment", hint, MOST_OF_RECORD)
    rows = read_table(folder.path / "results.csv")
    name = str(record.get("experiment"))
    spec = _spec(name)
    with legible(folder):
        page = _page(folder, name, rows, spec)
    return write_page(folder, page)


def _page(folder: RunFolder, name: str, rows: Sequence[Row], spec: Experiment | None) -> Page:
    figure = folder.path / "figure.png"
    title = spec.title if spec is not None else name
    shown = "median over images, and the band between the quartiles"
    key = next((row["key"] for row in rows if row.get("key")), "")
    return comparison_page(
        folder,
        title,
        _compared(folder, rows, spec),
        facts=_facts(name, rows, key),
        figures=[(file_uri(figure), f"{title}: {shown}")] if figure.exists() else (),
        links=[(link(n), n) for n in FILES if (folder.path / n).exists()],
    )


def _spec(name: str) -> Experiment | None:
    """Return the experiment's file; none where this version has no such experiment."""
    try:
        return load_experiment(name)
    except ConfigurationError:
        return None


def _facts(name: str, rows: Sequence[Row], key: str) -> list[tuple[str, str]]:
    def count(column: str) -> str:
        return str(len({row[column] for row in rows}))

    facts = [("experiment", name), ("methods", count("method")), ("images", count("image"))]
    facts += [("seed", seed) for seed in dict.fromkeys(row["seed"] for row in rows)]
    levels = list(dict.fromkeys(row["level"] for row in rows))
    return [*facts, (key, ", ".join(levels))] if key else facts


def _compared(folder: RunFolder, rows: Sequence[Row], spec: Experiment | None) -> list[Compared]:
    """Return an entry for each image at each level."""
    truths = _truths(folder.path / "images")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["level"], row["image"]), []).append(row)
    compared = []
    for (level, image_id), of in groups.items():
        runs = {_label(spec, row["method"]): _run(folder, row["method"], level) for row in of}
        at = f", {of[0]['key']} = {level}" if level else ""
        said = [_said(row, spec) for row in of]
        compared.append(Compared(f"{image_id}{at}", image_id, runs, truths.get(image_id), said))
    return compared


def _said(row: Row, spec: Experiment | None) -> dict[str, str]:
    """Return a row as the page has it."""
    named = {"image": row["image"], "method": _label(spec, row["method"])}
    swept = {"level": row["level"]} if row["level"] else {}
    rest = {k: v for k, v in row.items() if k not in (*named, *COMMON) and v}
    return {**named, **swept, **rest}


def _label(spec: Experiment | None, method: str) -> str:
    known = spec.methods.get(method) if spec is not None else None
    return (known.label or method) if known is not None else method


def _run(folder: RunFolder, method: str, level: str) -> RunFolder:
    """Return the folder of a run; its name has the level in full, the table six digits of it."""
    runs = folder.path / "runs"
    if not level:
        return RunFolder(runs / method)
    for path in sorted(runs.glob(f"{method}-*")):
        try:
            if math.isclose(
                float(path.name.removeprefix(f"{method}-")), float(level), rel_tol=1e-5
            ):
                return RunFolder(path)
        except ValueError:
            continue
    return RunFolder(runs / f"{method}-{level}")


def _truths(path: Path) -> Mapping[str, Path]:
    try:
        return find_images(path)
    except IloError:  # classifier-guided generation has none
        return {}
