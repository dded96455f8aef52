"""One run from a configuration to a finished run folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.markup import escape

from ilo_pl.callbacks.progress import StageProgress
from ilo_pl.callbacks.stopwatch import Stopwatch, write_seconds
from ilo_pl.callbacks.writer import ResultWriter
from ilo_pl.classical import denoise
from ilo_pl.config import RunConfig, TrainerConfig
from ilo_pl.data import ImageFolder, MeasurementFolder, check_size
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators import SplitGenerator, make_generator
from ilo_pl.guidance import GuidedScores, score_guided
from ilo_pl.inversion import ILOInversion
from ilo_pl.io import RunFolder, find_images, load_image
from ilo_pl.measurements import SUFFIX, Origin, find_measurements
from ilo_pl.measuring.specs import ClassifierSpec
from ilo_pl.metrics import Scores, score_run
from ilo_pl.operators import Classifier
from ilo_pl.report import row_of, write_grid
from ilo_pl.task import GREY_LEVELS, InMemory, InverseTask, MeasurementSource

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

# A reconstruction, its measurements and its stages as PNG, and its latents, seen at 1024 x 1024, and its
# measurements as numbers.
BYTES_PER_PIXEL = 42


def run(
    config: RunConfig, console: Console, label: str = "", callbacks: Sequence[pl.Callback] = ()
) -> list[Scores] | list[GuidedScores]:
    """Invert every input image and write the run folder.

    Everything is checked before the folder is made.

    Args:
        config: the run.
        console: where progress is drawn.
        label: a word in front of it.
        callbacks: further ones for the Trainer; a method outside the engine has none.

    Returns:
        The scores, if references were given or a classifier was followed.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
    """
    folder, references, source, origin, task = _prepare(config)
    if task is None:
        _denoise(config, folder, source, origin, console, label)
    else:
        _search(config, folder, task, origin, [StageProgress(console, label), *callbacks])
    scores = _scores(config, folder, source, references)
    write_grid(folder, [row_of(folder, i, references.get(i)) for i in source.ids])
    return scores


def check(config: RunConfig) -> None:
    """Find what is wrong with a run, without a trace.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
    """
    _prepare(config)
    with quiet_lightning():
        make_trainer(config.trainer, [])


class _Ready(NamedTuple):
    """A run that has been checked; a method outside the engine has no task."""

    folder: RunFolder
    references: Mapping[str, Path]
    source: MeasurementSource
    origin: Origin
    task: InverseTask | None


def _prepare(config: RunConfig) -> _Ready:
    files = _files(config)
    references = _references(config, files)
    folder = RunFolder(Path(config.output))
    folder.check()
    weights = Path(config.generator.weights) if config.generator.weights else None
    name, seed = config.generator.name, config.generator.seed
    generator = make_generator(name, weights, seed, imports=True)
    shape = generator.image_shape
    for path in references.values():
        check_size(path, load_image(path).rgb, shape)
    source, origin = _source(config, files, shape)
    if config.outside:
        config.outside.load()
    task = None if config.outside else _task(config, generator, source)
    folder.check(bytes_needed=len(source.ids) * shape[1] * shape[2] * BYTES_PER_PIXEL)
    return _Ready(folder, references, source, origin, task)


def _task(config: RunConfig, generator: SplitGenerator, source: MeasurementSource) -> InverseTask:
    return InverseTask(
        generator,
        None,
        source,
        schedule=config.schedule,
        seed=config.seed,
        batch_size=config.batch_size,
        noise_sigma=config.noise.sigma / GREY_LEVELS,
    )


def _search(
    config: RunConfig,
    folder: RunFolder,
    task: InverseTask,
    origin: Origin,
    callbacks: Sequence[pl.Callback],
) -> None:
    """Run the engine."""
    module = ILOInversion(task, compile=config.compile, keep_results=False)
    watch = Stopwatch()
    writer = ResultWriter(folder, config.generator.name, origin, config.save_measurements)
    with quiet_lightning():
        trainer = make_trainer(config.trainer, [watch, writer, *callbacks])
        _write_config(config, folder)
        trainer.fit(module)
    write_seconds(folder, watch.seconds)


def _denoise(
    config: RunConfig,
    folder: RunFolder,
    source: MeasurementSource,
    origin: Origin,
    console: Console,
    label: str,
) -> None:
    """Run the method outside the engine, with a line that says where it is."""
    _write_config(config, folder)
    with console.status("") as status:
        denoise(
            folder,
            source,
            origin,
            config.noise.sigma,
            save_measurements=config.save_measurements is True,
            told=lambda text: status.update(escape(f"{label} {text}")),
        )


def _write_config(config: RunConfig, folder: RunFolder) -> None:
    folder.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(config.model_dump())))


def _files(config: RunConfig) -> dict[str, Path]:
    if config.input is None:
        return {}
    return find_measurements(Path(config.input)) or find_images(Path(config.input))


def _scores(
    config: RunConfig,
    folder: RunFolder,
    source: MeasurementSource,
    references: Mapping[str, Path],
) -> list[Scores] | list[GuidedScores]:
    if isinstance(config.operator, ClassifierSpec):
        classifier = source.load([0]).operator
        assert isinstance(classifier, Classifier)
        target = classifier.index(config.operator.target)
        return score_guided(folder, source.ids, classifier.cpu(), target)
    return score_run(folder, references) if references else []


def _source(
    config: RunConfig, files: Mapping[str, Path], shape: tuple[int, int, int]
) -> tuple[MeasurementSource, Origin]:
    """Return where measurements come from and, to be saved beside them, how they are made."""
    operator, noise = (s.model_dump(mode="json") for s in (config.operator, config.noise))
    origin = Origin(shape, config.seed, config.task.name, operator, noise)
    if isinstance(config.operator, ClassifierSpec):
        classifier = config.operator.classifier(shape)
        target = classifier.target(config.operator.target).expand(config.samples, -1)
        return InMemory(classifier, target, [f"sample{i}" for i in range(config.samples)]), origin
    if next(iter(files.values())).suffix.lower() == SUFFIX:
        saved = MeasurementFolder(files, config.operator, config.noise, shape)
        saved.check()
        return saved, saved.origin
    images = ImageFolder(
        files,
        config.operator.maker(shape, config.seed),
        shape,
        config.seed,
        simulate=config.simulate,
        noise=config.noise,
    )
    images.check()
    return images, origin


def _references(config: RunConfig, files: Mapping[str, Path]) -> dict[str, Path]:
    if config.reference is None:
        return {}
    found = find_images(Path(config.reference))
    if len(files) == 1 and len(found) == 1:
        return {next(iter(files)): next(iter(found.values()))}
    missing = sorted(set(files) - set(found))
    if missing:
        raise InputError(
            f"{config.reference} holds no true image for {missing[0]!r}"
            + (f" and {len(missing) - 1} more." if len(missing) > 1 else "."),
            hint="A folder of references holds one file for each input, with the input's name.",
        )
    return {image_id: found[image_id] for image_id in files}


def make_trainer(config: TrainerConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Return the Trainer of a configuration.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    if config.devices > 1:
        raise ConfigurationError(
            f"trainer.devices = {config.devices}; a run uses one device.",
            hint="Start one run for each device, each with its own part of the images.",
        )
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            precision=choose_precision(config),
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"trainer.accelerator = {config.accelerator!r} with precision {config.precision!r} "
            f"cannot be used here: {error}",
            hint="trainer.accelerator=auto and trainer.precision=auto always work.",
        ) from error


def choose_precision(config: TrainerConfig) -> Precision:
    """Resolve ``auto``: bf16-mixed where the device computes in bfloat16 natively, else 32-true."""
    if config.precision != "auto":
        return config.precision
    if config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif config.accelerator in ("auto", "cpu"):
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about itself; what concerns the run is said by the command."""
    # The second one reports, when something is compiled, that there is no CUDA.
    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
