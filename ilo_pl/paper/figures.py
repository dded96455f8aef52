"""Figures of an experiment, drawn from its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ilo_pl.errors import ConfigurationError
from ilo_pl.io.folder import RunFolder
from ilo_pl.spec import Spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, object]
Scale = Literal["linear", "log"]
MAX_COLUMNS = 3


class Panel(Spec):
    """One panel: a line for each method, its median over images and the band between the quartiles.

    Args:
        y: column that is drawn.
        y_label: what the axis says.
        y_scale: linear or log.
        table: ``results``, a point for each level; or ``trace``, a point for each step looked at.
        x: column along the other axis, of which the median over images is taken.
        x_label, x_scale: as for y.
    """

    y: str
    y_label: str
    y_scale: Scale = "linear"
    table: Literal["results", "trace"] = "results"
    x: str = "level"
    x_label: str
    x_scale: Scale = "linear"


def band(rows: Sequence[Row], panel: Panel) -> np.ndarray:
    """Return the line of some rows: x, lower quartile, median and upper quartile, ``(4, points)``.

    Raises:
        ConfigurationError: there is no such column.
    """
    wanted = {"results": "level", "trace": "step"}[panel.table]
    groups: dict[float, list[tuple[float, float]]] = {}
    for row in rows:
        missing = {panel.x, panel.y} - set(row)
        if missing:
            raise ConfigurationError(
                f"A panel draws the column {min(missing)!r}, which the {panel.table} do not have.",
                choices=row,
            )
        x, y, key = (float(str(row[name])) for name in (panel.x, panel.y, wanted))
        groups.setdefault(key, []).append((x, y))
    points = []
    for _, values in sorted(groups.items()):
        x, y = np.transpose(values)
        points.append([np.median(x), *np.quantile(y, [0.25, 0.5, 0.75])])
    return np.transpose(points)


def draw_figure(
    folder: RunFolder,
    title: str,
    panels: Sequence[Panel],
    tables: Mapping[str, Sequence[Row]],
    methods: Mapping[str, str],
) -> Path:
    """Draw ``figure.png``: the panels side by side.

    Args:
        folder: where to.
        title: above them.
        panels: what each draws.
        tables: rows by the table's name; the column ``method`` says which line they belong to.
        methods: what the legend calls each method.

    Raises:
        ConfigurationError: a panel draws a column that is not there.
    """
    # The object interface needs no display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = math.ceil(len(panels) / MAX_COLUMNS)
    columns = math.ceil(len(panels) / lines)
    figure = Figure(figsize=(4.6 * columns, 3.8 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, tables[panel.table], methods)
    figure.suptitle(title, fontsize=11)
    return folder.write("figure.png", lambda path: figure.savefig(path, format="png", dpi=130))


def _draw_panel(axes: Axes, panel: Panel, table: Sequence[Row], methods: Mapping[str, str]) -> None:
    for method, label in methods.items():
        rows = [row for row in table if row["method"] == method]
        if rows:
            _draw_line(axes, band(rows, panel), label)
    axes.set(
        xlabel=panel.x_label,
        ylabel=panel.y_label,
        xscale=panel.x_scale,
        yscale=panel.y_scale,
    )
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)


def _draw_line(axes: Axes, line: np.ndarray, label: str) -> None:
    x, low, middle, high = line
    (drawn,) = axes.plot(x, middle, marker="o", markersize=3, label=label)
    axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
