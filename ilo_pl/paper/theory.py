"""``ilo-pl theory``: the bounds as tables, and the empirical check as a table and a plot."""

from __future__ import annotations

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

from ilo_pl.config.choices import config_dir
from ilo_pl.config.compose import load_run_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.tables import write_table
from ilo_pl.paper import bounds
from ilo_pl.paper.bounds import Matrix, Setting
from ilo_pl.spec import Spec

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
    representation: Annotated[float, Field(ge=0)]
    noise: Annotated[float, Field(ge=0)]
    slack: Annotated[float, Field(ge=0)]
    run: str | None
    generator: str
    weights: str | None
    matrices: Annotated[tuple[Matrix, ...], Field(min_length=1)]
    counts: Annotated[tuple[Count, ...], Field(min_length=1)]
    split: Annotated[int, Field(ge=0)]
    radius: Annotated[float, Field(ge=0)]
    nonzeros: Count
    images: Annotated[int, Field(ge=2)]
    trials: Count
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @property
    def setting(self) -> Setting:
        """The setting of the bounds."""
        names = Setting.__dataclass_fields__
        return Setting(**{name: getattr(self, name) for name in names})

    @property
    def network(self) -> GeneratorConfig:
        """The generator of the empirical check."""
        return GeneratorConfig(name=self.generator, weights=self.weights, seed=self.seed)


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
    rows = bound_rows(config.setting, config.constant)
    if config.run:
        rows += [bound(name, s, config.constant) for name, s in run_settings(config)]
    estimates = estimate(config)
    write_table(folder, "bounds.csv", rows)
    write_table(folder, "gamma.csv", [vars(e) for e in estimates])
    _plot(folder, estimates)
    console.print(_table("Measurements needed, up to the unnamed constant", rows))
    console.print(_table("Empirical gamma", [vars(e) for e in estimates]))
    error = bounds.error_bound(
        config.representation, config.noise, config.slack, config.delta, config.gamma
    )
    console.print(f"With that many, the image found is within {error:.4g} of the true one (l2).")
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


def run_settings(config: TheoryConfig) -> list[tuple[str, Setting]]:
    """Return the setting of each stage of a run that has an l1 ball: p is its split's, K from its radius.

    Raises:
        IloError: there is no such run, it has no l1 ball around hidden variables, or its generator cannot
            be made.
    """
    run = load_run_config(Path(str(config.run)))
    if run.outside:
        raise ConfigurationError(
            f"The run {config.run} is of the method {run.outside.name!r}, which searches no generator, so that "
            "there are no bounds for it.",
            hint="Give a run of a method with l1 balls, for example of method=ilo.",
        )
    # What a folder names is imported only when the user names it too.
    generator = run.generator.make(imports=run.generator.name == config.generator)
    found = []
    for index, stage in enumerate(run.schedule.resolve(generator).stages):
        p = generator.splits[stage.split].numel
        radius = stage.radii.absolute("hidden", p)
        if stage.split > 0 and radius:
            setting = replace(config.setting, p=p, K=config.delta / radius)
            found.append((f"stage {index + 1} of the run, split {stage.split}", setting))
    if not found:
        raise ConfigurationError(
            f"The run {config.run} has no l1 ball around hidden variables, so that it has no K.",
            hint="Give a run with radii, for example of method=ilo.",
        )
    return found


def estimate(config: TheoryConfig) -> list[Estimate]:
    """Stretch differences of images by random matrices of each kind and size."""
    generator = config.network.make(imports=True)
    generator.split(config.split)
    shape = generator.image_shape
    estimates = []
    for points, radius, nonzeros in (
        ("range", 0.0, None),
        ("extended range", config.radius, None),
        ("extended range, sparse", config.radius, config.nonzeros),
    ):
        images = bounds.extended_range(
            generator, config.split, radius, config.images, config.seed, nonzeros
        )
        for kind in config.matrices:
            matrices = (
                bounds.make_matrix(kind, shape, max(config.counts), config.seed + t)
                for t in range(config.trials)
            )
            drawn = [bounds.stretch(a, images, config.counts).numpy() for a in matrices]
            for m, found in zip(config.counts, np.concatenate(drawn, axis=1), strict=True):
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
