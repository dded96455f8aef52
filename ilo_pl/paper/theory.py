"""``ilo-pl theory``: the bounds as tables, and the empirical check as a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ilo_pl.config.saved import load_run_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table
from ilo_pl.paper import bounds
from ilo_pl.paper.bounds import Setting
from ilo_pl.paper.theory_keys import TheoryKeys

Points = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """How a random matrix stretches differences of images.

    Args:
        matrix: kind of the matrix.
        points: ``range``, ``extended range`` or ``extended range, sparse``.
        m: number of measurements.
        smallest, median, largest: of ||A d|| / ||d|| over pairs of images and draws of the matrix; the
            smallest estimates gamma.
    """

    matrix: str
    points: str
    m: int
    smallest: float
    median: float
    largest: float


def run_theory(keys: TheoryKeys, console: Console) -> None:
    """Write ``bounds.csv``, ``gamma.csv`` and ``gamma.png`` and print the tables.

    Args:
        keys: what is evaluated.
        console: where tables are printed.

    Raises:
        IloError: a key is wrong or the output folder cannot be used.
    """
    folder = RunFolder(Path(keys.output))
    setting = setting_of(keys)
    folder.check()
    rows = bound_rows(setting, keys.constant)
    if keys.run:
        rows += [bound(name, s, keys.constant) for name, s in run_settings(keys)]
    estimates = estimate(keys)
    write_table(folder, "bounds.csv", rows)
    write_table(folder, "gamma.csv", [vars(e) for e in estimates])
    _plot(folder, estimates)
    console.print(_table("Measurements needed, up to the unnamed constant", rows))
    console.print(_table("Empirical gamma", [vars(e) for e in estimates]))
    error = bounds.error_bound(keys.representation, keys.noise, keys.slack, keys.delta, keys.gamma)
    console.print(f"With that many, the image found is within {error:.4g} of the true one (l2).")
    console.print(f"Written to {keys.output}", markup=False)


def setting_of(keys: TheoryKeys) -> Setting:
    """Return the setting of the bounds.

    Raises:
        ConfigurationError: a value is out of its range.
    """
    return Setting(**{name: getattr(keys, name) for name in Setting.__dataclass_fields__})


def bound(what: str, setting: Setting, constant: float) -> dict[str, Any]:
    """Return the row of ILO's bound in one setting."""
    sizes = {"p": setting.p, "K": setting.K, "r2": setting.r2}
    return _row(what, sizes, sum(bounds.ilo_log_cover(setting)), setting.gamma, constant)


def bound_rows(setting: Setting, constant: float) -> list[dict[str, Any]]:
    """Return the bounds for ILO at several K, for CSGM and for a free search of the layer (Remark 3)."""
    csgm, layer = bounds.csgm_log_cover(setting), bounds.layer_log_cover(setting)
    scaled = [replace(setting, K=setting.K * factor) for factor in (0.01, 0.1, 1.0, 10.0, 100.0)]
    return [
        _row("range (CSGM)", {}, csgm, setting.gamma, constant),
        *(bound("extended range (ILO)", s, constant) for s in scaled),
        _row("layer, unconstrained", {"p": setting.p}, layer, setting.gamma, constant),
    ]


def _row(
    what: str, sizes: Points, log_cover: float, gamma: float, constant: float
) -> dict[str, Any]:
    needed = bounds.measurements_needed(log_cover, gamma, constant)
    empty = {"search": what, "p": "", "K": "", "r2": ""}
    return {**empty, **sizes, "log_cover": log_cover, "m": needed}


def run_settings(keys: TheoryKeys) -> list[tuple[str, Setting]]:
    """Return the setting of each stage of a run that has an l1 ball: p is its split's, K from its radius.

    Raises:
        IloError: there is no such run, it has no l1 ball around hidden variables, or its generator cannot
            be made.
    """
    run = load_run_config(Path(str(keys.run)))
    if run.outside:
        raise ConfigurationError(
            f"The run {keys.run} is of the method {run.outside.name!r}, which searches no generator, so that "
            "there are no bounds for it.",
            hint="Give a run of a method with l1 balls, for example of method=ilo.",
        )
    # What a folder names is imported only when the user names it too.
    generator = run.generator.make(imports=run.generator.name == keys.generator)
    found = []
    for index, stage in enumerate(run.schedule.resolve(generator).stages):
        p = generator.splits[stage.split].numel
        radius = stage.radii.absolute("hidden", p)
        if stage.split > 0 and radius:
            setting = replace(setting_of(keys), p=p, K=keys.delta / radius)
            found.append((f"stage {index + 1} of the run, split {stage.split}", setting))
    if not found:
        raise ConfigurationError(
            f"The run {keys.run} has no l1 ball around hidden variables, so that it has no K.",
            hint="Give a run with radii, for example of method=ilo.",
        )
    return found


def estimate(keys: TheoryKeys) -> list[Estimate]:
    """Stretch differences of images by random matrices of each kind and size."""
    generator = GeneratorConfig(name=keys.generator, weights=keys.weights, seed=keys.seed).make(
        imports=True
    )
    generator.split(keys.split)
    shape = generator.image_shape
    estimates = []
    for points, radius, nonzeros in (
        ("range", 0.0, None),
        ("extended range", keys.radius, None),
        ("extended range, sparse", keys.radius, keys.nonzeros),
    ):
        images = bounds.extended_range(
            generator, keys.split, radius, keys.images, keys.seed, nonzeros
        )
        for kind in keys.matrices:
            matrices = (
                bounds.make_matrix(kind, shape, max(keys.counts), keys.seed + t)
                for t in range(keys.trials)
            )
            drawn = [bounds.stretch(a, images, keys.counts).numpy() for a in matrices]
            for m, found in zip(keys.counts, np.concatenate(drawn, axis=1), strict=True):
                quantiles = (float(np.quantile(found, q)) for q in (0, 0.5, 1))
                estimates.append(Estimate(kind, points, m, *quantiles))
    return estimates


def _plot(folder: RunFolder, estimates: Sequence[Estimate]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for matrix, points in dict.fromkeys((e.matrix, e.points) for e in estimates):
        line = [e for e in estimates if (e.matrix, e.points) == (matrix, points)]
        dashes = {"range": "-", "extended range": "--"}.get(points, ":")
        axis.plot(
            [e.m for e in line], [e.smallest for e in line], dashes, label=f"{matrix}, {points}"
        )
    axis.set_xscale("log")
    axis.set_xlabel("measurements m")
    axis.set_ylabel("least ||A d|| / ||d||: estimate of gamma")
    axis.axhline(1.0, color="0.7", linewidth=0.8)
    axis.legend()
    folder.write("gamma.png", lambda path: figure.savefig(path, format="png", dpi=120))


def _table(title: str, rows: Sequence[Points]) -> Table:
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table
