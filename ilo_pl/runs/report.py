"""``report.html`` of a run folder, as a run leaves it or as it is asked for later."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from ilo_pl.config.run import RunConfig
from ilo_pl.config.saved import load_run_config
from ilo_pl.errors import ConfigurationError, IloError, InputError
from ilo_pl.evaluation.page import NAME, write_page
from ilo_pl.evaluation.run_page import About, run_page
from ilo_pl.io.find import find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.measurements import find_measurements
from ilo_pl.io.video import is_video
from ilo_pl.runs.record import RunRecord

PACKAGES = ("ilo_pl", "torch", "pytorch-lightning", "torchmetrics", "lpips")


def report_run(folder: RunFolder) -> Path:
    """Write the report of a run, finished or not, and return its path.

    Raises:
        ConfigurationError: the folder holds no run.
        IloError: something in it is damaged, or the page cannot be written.
    """
    about = _about(folder, load_run_config(folder.path))
    with legible(folder):
        page = run_page(folder, about)
    return write_page(folder, page)


@contextmanager
def legible(folder: RunFolder) -> Iterator[None]:
    """Explain what is raised in the block when a file of a folder is another than its name says.

    Raises:
        InputError: that happened.
    """
    try:
        yield
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"A file in {folder.path} is not what ilo-pl writes there: {error!r}."
        ) from error


def leave(folder: RunFolder, write: Callable[[RunFolder], Path] = report_run) -> None:
    """Write a report at the end of a run; what goes wrong is a warning, for the results are there.

    Args:
        folder: the folder.
        write: what writes its report.
    """
    try:
        write(folder)
    except Exception as error:
        reason = error.what if isinstance(error, IloError) else f"{type(error).__name__}: {error}"
        text = f"{folder.path / NAME} could not be made: {reason.rstrip('.')}. All else is there."
        warnings.warn(text, stacklevel=2)


def versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of what writes a page."""
    return (
        *((name, metadata.version(name)) for name in PACKAGES),
        ("Python", platform.python_version()),
    )


def _about(folder: RunFolder, config: RunConfig) -> About:
    ids = _ids(folder)
    notes: list[str] = []
    references = _pictures(config.reference, notes, "reference")
    if len(ids) == 1 and len(references) == 1:  # whatever their names
        references = {ids[0]: next(iter(references.values()))}
    facts = {
        "task": config.task.name,
        "operator": config.operator.name,
        "noise": config.noise.name,
        "method": config.method.name,
        "generator": config.generator.name,
        "seed": str(config.seed),
    }
    return About(
        title=f"{config.task.name.replace('_', ' ')} with {config.method.name}",
        facts=tuple(facts.items()),
        ids=ids,
        inputs=_inputs(config, notes),
        references=references,
        notes=tuple(notes),
        config=_text(folder),
        versions=versions(),
    )


def _ids(folder: RunFolder) -> tuple[str, ...]:
    """Return the ids of all images; none where an experiment has removed the record of its run."""
    try:
        record = RunRecord.read(folder)
    except ConfigurationError:  # which is what its results are for, not its page
        return ()
    return tuple(record.ids) if record is not None else ()


def _inputs(config: RunConfig, notes: list[str]) -> Mapping[str, Path]:
    """Return the input pictures; those that are what was measured are shown as that."""
    if config.input is None or not config.simulate or is_video(Path(config.input)):
        return {}
    try:
        if find_measurements(Path(config.input)):
            return {}
    except IloError:
        return {}
    return _pictures(config.input, notes, "input")


def _pictures(path: str | None, notes: list[str], key: str) -> Mapping[str, Path]:
    """Return a user's pictures, where they still are."""
    if path is None:
        return {}
    try:
        return find_images(Path(path))
    except IloError as error:
        notes.append(f"The pictures of {key} are left out: {error.what}")
        return {}


def _text(folder: RunFolder) -> str:
    path = folder.path / "config.yaml"
    return path.read_text("utf-8", "replace") if path.exists() else ""
