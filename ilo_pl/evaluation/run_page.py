"""The page of a run: its images, stage by stage. Reads a run folder, never the engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ilo_pl.evaluation.curve import Curve, loss_curve
from ilo_pl.evaluation.layers import (
    INPUT,
    MEASUREMENTS,
    REFERENCE,
    RESULT,
    Drawn,
    Layer,
    Layers,
    draw,
)
from ilo_pl.evaluation.page import Case, Page, cell, heading, link, table_of
from ilo_pl.evaluation.report import all_stage_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import read_table

# Where the loss by step of each image is, and the animation of its search.
LOSSES = "log/losses"
ANIMATION = "animation"
POSTERIOR = "posterior"
FILES = (
    "metrics.csv",
    "posterior.csv",
    "seconds.csv",
    "failures.csv",
    "config.yaml",
    "grid.png",
    "video.mp4",
)
# More pictures than of so many images no browser shows with ease; numbers are of all.
MOST_CASES = 200
STAGE_COLUMNS = ("split", "steps", "seconds", "loss")


@dataclass(frozen=True)
class About:
    """What a run folder's pictures and tables do not say.

    Args:
        title: above the page.
        facts: names and values below it.
        ids: of all images, in order; none: those that have results.
        inputs, references: users' pictures by id.
        notes: what is missing.
        config: the configuration as text.
        versions: of packages.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    ids: tuple[str, ...] = ()
    inputs: Mapping[str, Path] = field(default_factory=dict)
    references: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    config: str = ""
    versions: tuple[tuple[str, str], ...] = ()


def run_page(folder: RunFolder, about: About) -> Page:
    """Return the page of a run, finished or not.

    Raises:
        InputError: a table of the run cannot be read.
    """
    layers = _layers(folder, about)
    shown = list(layers)[:MOST_CASES]
    drawn = dict(zip(shown, draw([layers[i] for i in shown]), strict=True))
    values = _values(folder, layers)
    stages = _stages(folder)
    failures = tuple((r["id"], r["reason"]) for r in _rows(folder, "failures.csv"))
    rows = [{"id": image_id, **row} for image_id, row in values.items()]
    links = [f"#image-{n + 1}" if n < len(shown) else None for n in range(len(layers))]
    notes = [note for one in drawn.values() for note in one.notes]
    if len(shown) < len(layers):
        notes.append(f"Pictures are of the first {len(shown)} of {len(layers)} images.")
    missing = len(about.ids) - len(layers) - len(failures)
    if missing > 0:
        notes.append(f"{missing} of {len(about.ids)} images have no result yet.")
    return Page(
        title=about.title,
        facts=about.facts + _means(list(values.values()), len(about.ids) or len(layers)),
        # Of one image all is said below.
        table=table_of(rows if len(rows) > 1 else [], links if len(rows) > 1 else []),
        cases=tuple(
            _case(folder, i, one, values[i], stages.get(i, [])) for i, one in drawn.items()
        ),
        failures=failures,
        notes=(*about.notes, *notes),
        links=tuple((link(name), name) for name in FILES if (folder.path / name).is_file()),
        config=about.config,
        versions=about.versions,
    )


def _layers(folder: RunFolder, about: About) -> dict[str, Layers]:
    """Return the pictures of each image that has a result."""
    found = {path.stem for path in (folder.path / "reconstructions").glob("*.png")}
    stages = all_stage_images(folder)
    posteriors = _posteriors(folder)
    layers = {}
    for image_id in [i for i in about.ids if i in found] if about.ids else sorted(found):
        of = {}
        given, true = about.inputs.get(image_id), about.references.get(image_id)
        measured = folder.path / MEASUREMENTS / f"{image_id}.png"
        if given is not None and given != true:
            of[INPUT] = Layer(given)
        if measured.is_file():
            of[MEASUREMENTS] = _own(folder, measured)
        for label, path in stages.get(image_id, {}).items():
            of[label.replace("\n", " ")] = _own(folder, path)
        of[RESULT] = _own(folder, folder.path / "reconstructions" / f"{image_id}.png")
        of |= posteriors.get(image_id, {})
        if true is not None:
            of[REFERENCE] = Layer(true)
        layers[image_id] = Layers(of, (RESULT,))
    return layers


def _posteriors(folder: RunFolder) -> dict[str, dict[str, Layer]]:
    """Return the pictures ``posterior/<id>.<what>.png`` by id and label."""
    found: dict[str, dict[str, Layer]] = {}
    for path in sorted((folder.path / POSTERIOR).glob("*.png")):
        image_id, _, what = path.stem.rpartition(".")
        found.setdefault(image_id, {})[f"posterior {what.replace('_', ' ')}"] = _own(folder, path)
    return found


def _own(folder: RunFolder, path: Path) -> Layer:
    return Layer(path, path.relative_to(folder.path).as_posix())


def _case(
    folder: RunFolder,
    image_id: str,
    drawn: Drawn,
    values: Mapping[str, str],
    stages: Sequence[Mapping[str, str]],
) -> Case:
    losses, animation = f"{LOSSES}/{image_id}.csv", f"{ANIMATION}/{image_id}.gif"
    curve = _curve(folder.path / losses)
    return Case(
        title=image_id,
        pictures=drawn.pictures,
        left=drawn.index(MEASUREMENTS, INPUT),
        right=drawn.index(RESULT),
        facts=tuple((heading(k), cell(k, v).text) for k, v in values.items() if v),
        errors=drawn.errors,
        table=table_of(stages, [None] * len(stages)) if stages else None,
        table_title="Stages",
        curve=curve,
        losses=None if curve is None else link(losses),
        animation=link(animation) if (folder.path / animation).is_file() else None,
    )


def _curve(path: Path) -> Curve | None:
    return loss_curve(read_table(path)) if path.is_file() else None


def _values(folder: RunFolder, ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return scores, errors and seconds of each image."""
    values: dict[str, dict[str, str]] = {image_id: {} for image_id in ids}
    for name in ("metrics.csv", "seconds.csv"):
        for row in _rows(folder, name):
            own = {k: v for k, v in row.items() if k is not None and k != "id" and v is not None}
            values.get(row["id"], {}).update(own)
    return values


def _rows(folder: RunFolder, name: str) -> list[dict[str, str]]:
    path = folder.path / name
    return read_table(path) if path.is_file() else []


def _means(rows: Sequence[Mapping[str, str]], images: int) -> tuple[tuple[str, str], ...]:
    """Return how many images there are, their mean scores, and their seconds in all."""
    found = [("images", f"{images}")]
    for column in ("psnr", "ssim", "lpips", "measured_error", "seconds"):
        values = [float(row[column]) for row in rows if row.get(column)]
        if len(values) < 2:
            continue
        if column == "seconds":
            found.append(("seconds in all", f"{sum(values):.1f}"))
        else:
            mean = cell(column, f"{sum(values) / len(values):.6g}").text
            found.append((f"mean {heading(column)}", mean))
    return tuple(found)


def _stages(folder: RunFolder) -> dict[str, list[dict[str, str]]]:
    """Return what the log says of each stage, by image; of a stage that was searched again the last."""
    found: dict[str, dict[tuple[int, int], dict[str, str]]] = {}
    for path in sorted((folder.path / "log").glob("events.rank*.jsonl")):
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                event = json.loads(line)
                stage, turn = event["stage"], event["round"]
                row = {"stage": f"{stage + 1}" + (f", round {turn + 1}" if turn else "")}
                row |= {c: f"{event[c]:.6g}" for c in STAGE_COLUMNS}
                row |= {"faults": f"{event['faults']}"} if event["faults"] else {}
                found.setdefault(str(event["image"]), {})[stage, turn] = row
            except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError):
                continue  # cut short by a kill, or damaged
    return {i: [row for _, row in sorted(of.items())] for i, of in found.items()}
