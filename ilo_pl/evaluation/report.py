"""Pictures and tables of a run. Reads a run folder, never the engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.markup import escape
from rich.table import Table

from ilo_pl.evaluation.thumbnails import shrunk
from ilo_pl.io.folder import PNG_COMPRESSION, RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CELL = 256
MAX_ROWS = 16
STAGE_NAME = re.compile(r"(.+)\.stage(\d+)-round(\d+)-split(\d+)", re.DOTALL)
HEADINGS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}
DIGITS = {"psnr": 2}


def stage_images(folder: RunFolder, image_id: str) -> dict[str, Path]:
    """Return the pictures of each solve of one image by label, in order."""
    return all_stage_images(folder).get(image_id, {})


def all_stage_images(folder: RunFolder) -> dict[str, dict[str, Path]]:
    """Return the pictures of each solve by label, in order, by the image's id."""
    found: dict[str, list[tuple[int, int, int, Path]]] = {}
    for path in (folder.path / "stages").glob("*.png"):
        if known := STAGE_NAME.fullmatch(path.stem):
            stage, turn, split = map(int, known.groups()[1:])
            found.setdefault(known[1], []).append((stage, turn, split, path))
    return {name: _labelled(of) for name, of in found.items()}


def _labelled(solves: Iterable[tuple[int, int, int, Path]]) -> dict[str, Path]:
    labelled = {}
    for stage, turn, split, path in sorted(solves):
        label = "CSGM stage" if stage == 0 else f"stage {stage + 1}"
        again = f", round {turn + 1}" if turn else ""
        labelled[f"{label}{again}\n(split {split})"] = path
    return labelled


def row_of(folder: RunFolder, image_id: str, truth: Path | None) -> dict[str, Path]:
    """Return the pictures of one image by label: truth, measurements, stages, result, and how unsure it is."""
    row: dict[str, Path] = {}
    if truth is not None:
        row["truth"] = truth
    measured = folder.path / "measurements" / f"{image_id}.png"
    if measured.exists():
        row["measurements"] = measured
    row |= stage_images(folder, image_id)
    row["result"] = folder.path / "reconstructions" / f"{image_id}.png"
    unsure = folder.path / "posterior" / f"{image_id}.std.png"
    if unsure.exists():
        row["standard deviation"] = unsure
    return row


def write_grid(
    folder: RunFolder, rows: Sequence[Mapping[str, Path]], notes: Sequence[str] = ()
) -> Path:
    """Draw a grid of labelled pictures into ``grid.png``.

    Args:
        folder: the run folder.
        rows: pictures by label, one row an image, at most 16 are drawn.
        notes: a text at the left of each row.
    """
    # The object interface needs no display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = rows[:MAX_ROWS]
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.4 * columns, 3.0 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    with ThreadPoolExecutor() as pool:
        thumbnails = [list(pool.map(_thumbnail, row.values())) for row in rows]
    for r, row in enumerate(rows):
        for axis in axes[r]:
            axis.axis("off")
        for axis, label, thumbnail in zip(axes[r], row, thumbnails[r], strict=False):
            axis.imshow(thumbnail)
            axis.set_title(label, fontsize=10)
        if r < len(notes):
            figure.text(0.002, 1 - (r + 0.5) / len(rows), notes[r], rotation=90, va="center")
    quickly = {"compress_level": PNG_COMPRESSION}
    return folder.write(
        "grid.png",
        lambda path: figure.savefig(path, format="png", dpi=110, pil_kwargs=quickly),
    )


def _thumbnail(path: Path) -> np.ndarray:
    """Return a small copy; what is transparent becomes grey."""
    with Image.open(path) as file:
        return np.asarray(shrunk(file, CELL))


def scores_table(title: str, groups: Iterable[tuple[str, Sequence[DataclassInstance]]]) -> Table:
    """Return a table of scores of one kind, one block of rows for each label."""
    blocks = list(groups)
    names = [f.name for f in fields(blocks[0][1][0])]
    table = Table(title=title)
    for name in ("method", *names):
        heading = {"id": "image", **HEADINGS}.get(name, name.replace("_", " "))
        table.add_column(heading, justify="left" if name in ("method", "id") else "right")
    for label, scores in blocks:
        for score in scores:
            values = [getattr(score, name) for name in names]
            cells = [
                escape(v) if isinstance(v, str) else f"{v:.{DIGITS.get(n, 3)}f}"
                for n, v in zip(names, values, strict=True)
            ]
            table.add_row(escape(label), *cells)
    return table
