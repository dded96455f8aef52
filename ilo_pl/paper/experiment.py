"""``ilo-pl experiment``: a figure of the paper from the runs behind it, resumable between them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import Tensor

from ilo_pl.config.differences import changes, other_settings
from ilo_pl.config.saved import load_run_config, read_yaml
from ilo_pl.errors import ConfigurationError, IloError, unknown
from ilo_pl.evaluation.metrics import Scorer, Scores
from ilo_pl.evaluation.report import write_grid
from ilo_pl.generators import SplitGenerator
from ilo_pl.io.find import find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import image_size, load_image, to_bytes
from ilo_pl.io.tables import read_table, write_table
from ilo_pl.paper.demo import portrait
from ilo_pl.paper.experiment_file import MOST_OF_RECORD, RECORD
from ilo_pl.paper.experiment_page import report_experiment
from ilo_pl.paper.figures import draw_figure
from ilo_pl.paper.sweep import Plan, PlannedRun
from ilo_pl.runs.quality_trace import Trace, mse_of
from ilo_pl.runs.report import leave
from ilo_pl.runs.run import check, run
from ilo_pl.runs.sources import check_generated

FACES = (1, 2, 3, 4)  # seeds of the generated faces, which no default was tuned on
# What drawing needs no more: the pictures of single stages and what regenerates the results.
PRUNED = ("latents", "stages", "log", "state")
GRID_ROWS = 4
T = TypeVar("T")


def run_experiment(plan: Plan, console: Console, progress: Console) -> None:
    """Run what is missing of an experiment, then write its tables and draw its figures.

    Args:
        plan: the experiment.
        console: is told what was made.
        progress: where progress is drawn.

    Raises:
        IloError: the folder, the images or a configuration cannot be used; nothing was run then.
    """
    folder = RunFolder(plan.output)
    truths = _prepare(plan, folder)
    for number, planned in enumerate(plan.runs):
        if not _finished(planned):
            label = f"{number + 1}/{len(plan.runs)} {planned.folder.path.name}"
            _run_one(plan, planned, truths, progress, label)
        write_table(folder, "results.csv", _results(plan, plan.runs[: number + 1]))
    _draw(plan, folder, truths)
    page = "report.html, " if plan.runs[0].config.report else ""
    if page:
        leave(folder, report_experiment)
    console.print(
        f"Tables and figures are in {folder.path}: {page}results.csv, figure.png, grid.png",
        markup=False,
        soft_wrap=True,
    )


def default_images(generator: SplitGenerator) -> dict[str, Tensor]:
    """Return the images of an experiment without ``input=``: faces drawn from z by seeds 1 to 4.

    Returns:
        Images ``(3, H, W)`` as bytes, by id; the shipped portrait is one where its size fits.
    """
    images = {}
    for seed in FACES:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            images[f"face{seed}"] = to_bytes(
                generator(torch.randn(1, generator.latent_dim, generator=draw))[0]
            )
    photo = load_image(portrait()).rgb
    if tuple(photo.shape) == generator.image_shape:
        images["portrait"] = to_bytes(photo)
    return images


def _check_run(planned: PlannedRun, generator: SplitGenerator) -> None:
    """Find what only the generator shows to be wrong, and a finished run of another configuration."""
    config = planned.config
    if config.outside:
        config.outside.require()
    else:
        config.schedule.resolve(generator)
    if config.input is not None:
        try:
            config.operator.maker(generator.image_shape, config.seed)
        except ConfigurationError as error:
            swept = "" if planned.level is None else "Choose others with levels=[...]."
            hint = error.hint or swept
            raise ConfigurationError(error.what, choices=error.choices, hint=hint) from None
    if not (planned.folder.path / "config.yaml").exists():
        return
    before, now = (c.model_dump() for c in (load_run_config(planned.folder.path), config))
    # The images are compared themselves, wherever the folder is.
    changed = changes(before, now, ignored=["input"])
    if changed:
        raise other_settings(planned.folder.path, changed)


def _prepare(plan: Plan, folder: RunFolder) -> dict[str, Path]:
    """Check everything; make the folder, or see that it is this experiment's; return its images by id."""
    generator = plan.runs[0].config.generator.make(imports=True)
    for planned in plan.runs:
        _check_run(planned, generator)
    existed = folder.path.exists()
    fresh = not (folder.path / RECORD).exists()
    if fresh:
        folder.check()
    files = _chosen(plan, find_images(plan.input)) if plan.input else {}
    digests = {i: hashlib.sha256(f.read_bytes()).hexdigest() for i, f in files.items()}
    images = list(plan.images) if isinstance(plan.images, tuple) else plan.images
    record = {"experiment": plan.name, "images": images, "input": digests or None}
    if not fresh:
        _compare(folder, record)
    for file in files.values():
        check_generated(file, image_size(file), generator)
    try:
        if fresh and plan.spec.input:
            _write_images(plan, folder, generator, files)
        first = {s.method: s for s in reversed(plan.runs) if not _finished(s)}
        for planned in first.values():
            shutil.rmtree(planned.folder.path, ignore_errors=True)  # a run that was stopped
            check(planned.config)
    except IloError:
        if fresh:
            shutil.rmtree(folder.path / "images", ignore_errors=True)
            if not existed:
                folder.path.rmdir()
        raise
    folder.write_text(RECORD, OmegaConf.to_yaml(OmegaConf.create(record)))
    return find_images(folder.path / "images") if plan.spec.input else {}


def _compare(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Refuse to resume an experiment that was started as another one or with other images."""
    path = folder.path / RECORD
    hint = "Give another folder with output=..."
    started = read_yaml(path, "the record of an experiment", hint, MOST_OF_RECORD)
    if set(started) != set(record) or not isinstance(started["input"], dict | None):
        raise ConfigurationError(f"{path} is not the record of an experiment.", hint=hint)
    changed = [key for key, value in record.items() if started[key] != value]
    if changed:
        raise ConfigurationError(
            f"{folder.path} was started with another {' and another '.join(changed)}: "
            f"{_described(started, changed)} before, {_described(record, changed)} now.",
            hint="Resume with what it was started with, or give another folder with output=...",
        )


def _described(record: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """Describe a part of a record, without its digests."""
    ids = record["input"] and f"{len(record['input'])} files ({', '.join(record['input'])})"
    shown = {**record, "input": ids or "the default images"}
    return ", ".join(str(shown[key] or "all") for key in keys)


def _write_images(
    plan: Plan, folder: RunFolder, generator: SplitGenerator, files: Mapping[str, Path]
) -> None:
    """Copy the user's images, or write the default ones, so that the folder holds all it was made of."""
    for path in files.values():
        folder.write(f"images/{path.name}", lambda copy, path=path: shutil.copyfile(path, copy))  # type: ignore[misc]
    if not files:
        for image_id, image in _chosen(plan, default_images(generator)).items():
            folder.write_image("images", image_id, image)


def _chosen(plan: Plan, found: Mapping[str, T]) -> dict[str, T]:
    """Return the images that the plan takes."""
    if plan.images is None or isinstance(plan.images, int):
        return dict(list(found.items())[: plan.images])
    for image_id in plan.images:
        if image_id not in found:
            raise unknown("image", image_id, found)
    return {image_id: found[image_id] for image_id in plan.images}


def _finished(planned: PlannedRun) -> bool:
    """Whether a run has ended: its scores are the last of its tables that is written."""
    return (planned.folder.path / "metrics.csv").exists()


def _run_one(
    plan: Plan, planned: PlannedRun, truths: Mapping[str, Path], progress: Console, label: str
) -> None:
    """Run what was planned from its start."""
    folder = planned.folder
    if folder.path.exists():
        shutil.rmtree(folder.path)
    callbacks = []
    if plan.spec.trace and not planned.config.outside:
        scorer = Scorer()

        def score(image_id: str, image: Tensor) -> Scores:
            return scorer(image_id, image, load_image(truths[image_id]).rgb)

        callbacks.append(Trace(folder, plan.spec.trace, score))
    # Its stages do not stay: the experiment's page shows the results side by side.
    config = planned.config.model_copy(update={"report": False})
    run(config, progress, label, callbacks)
    for name in PRUNED:
        shutil.rmtree(folder.path / name, ignore_errors=True)


def _results(plan: Plan, runs: Sequence[PlannedRun]) -> list[dict[str, object]]:
    """Return a row for each image and run."""
    rows: list[dict[str, object]] = []
    for planned in runs:
        path, config = planned.folder.path, planned.config
        seconds = {r["id"]: float(r["seconds"]) for r in read_table(path / "seconds.csv")}
        for scores in read_table(path / "metrics.csv"):
            image_id = scores.pop("id")
            mse = {"mse": mse_of(float(scores["psnr"]))} if "psnr" in scores else {}
            rows.append(
                {
                    "experiment": plan.name,
                    "image": image_id,
                    "method": planned.method,
                    "key": plan.spec.axis.key if plan.spec.axis else "",
                    "level": "" if planned.level is None else planned.level,
                    "seed": config.seed,
                    "steps": 0 if config.outside else config.schedule.gradient_steps,
                    # What looking at a search took is in the seconds of its run: trace.csv has them without.
                    "seconds": "" if plan.spec.trace else seconds[image_id],
                    **mse,
                    **scores,
                }
            )
    return rows


def _traces(runs: Sequence[PlannedRun]) -> list[dict[str, object]]:
    return [
        {"method": planned.method, "level": planned.level, **row}
        for planned in runs
        if (planned.folder.path / "trace.csv").exists()
        for row in read_table(planned.folder.path / "trace.csv")
    ]


def _draw(plan: Plan, folder: RunFolder, truths: Mapping[str, Path]) -> None:
    """Write trace.csv, figure.png and grid.png."""
    traces = _traces(plan.runs)
    if traces:
        write_table(folder, "trace.csv", traces)
    tables = {"results": _results(plan, plan.runs), "trace": traces}
    draw_figure(folder, plan.spec.title, plan.spec.panels, tables, plan.labels)
    shown = _shown(plan)
    ids = list(find_images(next(iter(shown.values())).folder.path / "reconstructions"))
    write_grid(folder, [_grid_row(i, shown, truths.get(i)) for i in ids[:GRID_ROWS]])


def _shown(plan: Plan) -> dict[str, PlannedRun]:
    """Return the settings that the grid shows, by label: all methods at one level, or one at all levels."""
    if len(plan.labels) == 1 and plan.spec.grid is None:
        return {f"{plan.spec.axis.key if plan.spec.axis else ''}\n{s.level}": s for s in plan.runs}
    levels = [s.level for s in plan.runs if s.level is not None]
    level = min(levels, key=lambda v: abs(v - (plan.spec.grid or 0)), default=None)
    return {plan.labels[s.method]: s for s in plan.runs if s.level == level}


def _grid_row(
    image_id: str, shown: Mapping[str, PlannedRun], truth: Path | None
) -> dict[str, Path]:
    measured = next(iter(shown.values())).folder.path / "measurements" / f"{image_id}.png"
    given = {"truth": truth, "measurements": measured if measured.exists() else None}
    row = {label: path for label, path in given.items() if path is not None}
    for label, planned in shown.items():
        row[label] = planned.folder.path / "reconstructions" / f"{image_id}.png"
    return row
