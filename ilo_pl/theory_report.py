"""``ilo-pl theory``: the bounds as tables, and the empirical check as a table and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field
from rich.console import Console
from rich.table import Table

from ilo_pl import theory
from ilo_pl.config import config_dir, load_run_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators import make_generator
from ilo_pl.io import RunFolder
from ilo_pl.specs import Spec
from ilo_pl.theory import Matrix, Setting

Count = Annotated[int, Field(ge=1)]
Points = Mapping[str, Any]


class TheoryConfig(Spec):
    """Keys of ``configs/theory.yaml``, which explains them."""

    output: str
    k: Count
    p: Count
    lipschitz1: float
    lipschitz2: float
    r1: float
    delta: float
    K: float
    gamma: float
    constant: Annotated[float, Field(gt=0)]
    run: str | None
    generator: str
    matrices: tuple[Matrix, ...]
    counts: Annotated[tuple[Count, ...], Field(min_length=1)]
    split: Annotated[int, Field(ge=0)]
    radius: Annotated[float, Field(ge=0)]
    images: Annotated[int, Field(ge=2)]
    trials: Count
    seed: Annotated[int, Field(ge=0)]

    @property
    def setting(self) -> Setting:
        """The setting of the bounds."""
        names = Setting.__dataclass_fields__
        return Setting(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Estimate:
    """How a random matrix stretches differences of images.

    Args:
        matrix: kind of the matrix.
        points: ``range`` or ``extended range``.
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


def run_theory(overrides: Sequence[str], console: Console) -> None:
    """Write ``bounds.csv``, ``gamma.csv`` and ``gamma.png`` and print the tables.

    Args:
        overrides: ``key=value`` for keys of ``configs/theory.yaml``.
        console: where tables are printed.

    Raises:
        IloError: a key is wrong or the output folder cannot be used.
    """
    config = load_theory_config(overrides)
    folder = RunFolder(Path(config.output))
    folder.check()
    rows = bounds(config.setting, config.constant)
    measured = ball_constants(config) if config.run else []
    estimates = estimate(config)
    _write(folder, "bounds.csv", rows)
    _write(folder, "gamma.csv", [vars(e) for e in estimates])
    _plot(folder, estimates)
    console.print(_table("Measurements needed, up to the unnamed constant", rows))
    console.print(_table("Empirical gamma", [vars(e) for e in estimates]))
    for line in measured:
        console.print(line, markup=False)
    console.print(f"Written to {config.output}", markup=False)


def load_theory_config(overrides: Sequence[str]) -> TheoryConfig:
    """Return the typed keys.

    Raises:
        ConfigurationError: a key is unknown, ill-typed or missing.
    """
    base = OmegaConf.load(config_dir() / "theory.yaml")
    try:
        given = OmegaConf.from_dotlist(list(overrides))
        container = OmegaConf.to_container(OmegaConf.merge(base, given), resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigurationError(f"The keys cannot be read: {error}.") from None
    assert isinstance(container, dict)
    if container["output"] == "???":
        raise ConfigurationError(
            "output must be given.", hint="For example: ilo-pl theory output=theory K=100"
        )
    config = TheoryConfig(**{str(key): value for key, value in container.items()})
    _ = config.setting
    return config


def bounds(setting: Setting, constant: float) -> list[dict[str, Any]]:
    """Return the bounds for ILO at several K, for CSGM and for a free search of the layer (Remark 3)."""

    def row(what: str, ball: float | str, log_cover: float) -> dict[str, Any]:
        m = theory.measurements_needed(log_cover, setting.gamma, constant)
        return {"search": what, "K": ball, "log_cover": log_cover, "m": m}

    rows = [row("range (CSGM)", "", theory.csgm_log_cover(setting))]
    for factor in (0.01, 0.1, 1.0, 10.0, 100.0):
        scaled = replace(setting, K=setting.K * factor)
        rows.append(row("extended range (ILO)", scaled.K, sum(theory.ilo_log_cover(scaled))))
    rows.append(row("layer, unconstrained", "", theory.layer_log_cover(setting)))
    return rows


def ball_constants(config: TheoryConfig) -> list[str]:
    """Return K of each stage of a run, from its method's radii on the hidden variables."""
    run = load_run_config(Path(str(config.run)))
    generator = make_generator(run.generator.name, None, run.generator.seed)
    lines = []
    for index, stage in enumerate(run.schedule.resolve(generator).stages):
        radius = stage.radii.absolute("hidden", generator.splits[stage.split].numel)
        if stage.split > 0 and radius:
            lines.append(
                f"stage {index + 1} of {config.run}: split {stage.split}, r2 = {radius:.6g}, "
                f"K = delta / r2 = {config.delta / radius:.3g}"
            )
    return lines or [f"{config.run} has no l1 ball around hidden variables, so that K = 0."]


def estimate(config: TheoryConfig) -> list[Estimate]:
    """Stretch differences of images by random matrices of each kind and size."""
    generator = make_generator(config.generator, None, config.seed)
    generator.split(config.split)
    shape = generator.image_shape
    estimates = []
    for points, radius in (("range", 0.0), ("extended range", config.radius)):
        images = theory.extended_range(generator, config.split, radius, config.images, config.seed)
        for kind in config.matrices:
            for m in config.counts:
                matrices = (
                    theory.make_matrix(kind, shape, m, config.seed + t)
                    for t in range(config.trials)
                )
                found = np.concatenate([theory.stretch(a, images).numpy() for a in matrices])
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
        dashes = "-" if points == "range" else "--"
        axis.plot(
            [e.m for e in line], [e.smallest for e in line], dashes, label=f"{matrix}, {points}"
        )
    axis.set_xscale("log")
    axis.set_xlabel("measurements m")
    axis.set_ylabel("least ||A d|| / ||d||: estimate of gamma")
    axis.axhline(1.0, color="0.7", linewidth=0.8)
    axis.legend()
    folder.write("gamma.png", lambda path: figure.savefig(path, format="png", dpi=120))


def _write(folder: RunFolder, name: str, rows: Sequence[Points]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    folder.write_text(name, text.getvalue())


def _table(title: str, rows: Sequence[Points]) -> Table:
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table
