"""The page of several runs of the same images: their results over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ilo_pl.evaluation.layers import MEASUREMENTS, REFERENCE, Drawn, Layer, Layers, draw
from ilo_pl.evaluation.page import Case, Page, table_of
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.report import versions

# What a table of one image need not say again.
SAID = ("image", "level")


@dataclass(frozen=True)
class Compared:
    """One image, measured once, as several runs restored it.

    Args:
        title: what it is called.
        image_id: its id in the runs.
        runs: their folders, by label.
        truth: the true image, if there is one.
        rows: its scores, a row for each run.
    """

    title: str
    image_id: str
    runs: Mapping[str, RunFolder]
    truth: Path | None
    rows: Sequence[Mapping[str, str]]


def comparison_page(
    folder: RunFolder,
    title: str,
    compared: Sequence[Compared],
    *,
    facts: Sequence[tuple[str, str]] = (),
    figures: Sequence[tuple[str, str]] = (),
    links: Sequence[tuple[str, str]] = (),
    config: str = "",
) -> Page:
    """Return the page of a folder that holds runs.

    Args:
        folder: the folder, which the page is for.
        title: above it.
        compared: its images.
        facts: names and values below the title.
        figures: pictures of all, as data URIs, with what they show.
        links: further files.
        config: the configuration as text.
    """
    drawn = draw([_layers(folder, one) for one in compared])
    rows = [row for one in compared for row in one.rows]
    to = [f"#image-{n}" for n, one in enumerate(compared, 1) for _ in one.rows]
    return Page(
        title=title,
        facts=tuple(facts),
        table=table_of(rows, to),
        cases=tuple(_case(*pair) for pair in zip(compared, drawn, strict=True)),
        notes=tuple(note for one in drawn for note in one.notes),
        figures=tuple(figures),
        links=tuple(links),
        config=config,
        versions=versions(),
    )


def _layers(folder: RunFolder, one: Compared) -> Layers:
    def own(path: Path) -> Layer:
        return Layer(path, path.relative_to(folder.path).as_posix())

    name = f"{one.image_id}.png"
    files = {}
    measured = [run.path / "measurements" / name for run in one.runs.values()]
    for path in [path for path in measured if path.exists()][:1]:
        files[MEASUREMENTS] = own(path)
    for label, run in one.runs.items():
        files[label] = own(run.path / "reconstructions" / name)
    if one.truth is not None:
        files[REFERENCE] = own(one.truth) if folder.path in one.truth.parents else Layer(one.truth)
    return Layers(files, tuple(one.runs))


def _case(one: Compared, drawn: Drawn) -> Case:
    rows = [{k: v for k, v in row.items() if k not in SAID} for row in one.rows]
    return Case(
        title=one.title,
        pictures=drawn.pictures,
        left=drawn.index(MEASUREMENTS, *one.runs),
        right=drawn.index(*reversed(list(one.runs))),
        errors=drawn.errors,
        table=table_of(rows, [None] * len(rows)),
        table_title="Methods",
    )
