"""What a run needs, checked, from its configuration: images, generator, measurements, tasks, devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators import SplitGenerator
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.source import Batch, InMemory, MeasurementSource
from ilo_pl.inversion.task import InverseTask, Start
from ilo_pl.io.find import find_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import GREY_LEVELS, image_size
from ilo_pl.io.measurements import SUFFIX, Origin, find_measurements
from ilo_pl.io.remote import fetched, is_remote
from ilo_pl.io.video import unpacked
from ilo_pl.operators.config import ClassifierSpec
from ilo_pl.operators.makers import OperatorMaker
from ilo_pl.runs.batch_size import measured_batch_size
from ilo_pl.runs.content import belongings
from ilo_pl.runs.frames import Predecessors
from ilo_pl.runs.ledger import await_run
from ilo_pl.runs.place import Place, make_place, with_devices
from ilo_pl.runs.record import RunRecord
from ilo_pl.runs.sources import ImageFolder, MeasurementFolder, Picture, check_generated
from ilo_pl.runs.trainer import choose_precision, uses_cuda

# A reconstruction, its measurements and its stages as PNG, and its latents, seen at 1024 x 1024, and its
# measurements as numbers.
BYTES_PER_PIXEL = 48
# A sample, its share of the maps, and of the file in which all are.
BYTES_PER_SAMPLE = 6


class Assembly(NamedTuple):
    """A run that has been checked, with its devices; a method outside the engine has no task.

    ``files`` are those that its results depend on.
    """

    config: RunConfig
    place: Place
    folder: RunFolder
    files: Mapping[str, Path]
    references: Mapping[str, Path]
    source: MeasurementSource
    origin: Origin
    bad: Mapping[str, str]
    task: InverseTask | None
    follower: InverseTask | None


def assemble(config: RunConfig, given: Path, launch: bool) -> Assembly:
    """Check a run and return what it needs; nothing is written.

    Args:
        config: the run.
        given: where its images are.
        launch: whether the command may be started once more for each further device.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
    """
    if config.outside and config.resume:
        raise ConfigurationError(
            f"The method {config.method.name!r} cannot be resumed.",
            hint="Leave resume=true out and give a new output folder.",
        )
    if is_remote(config.output):
        raise ConfigurationError(
            f"output={config.output} is not on this machine, and a run folder is written there.",
            hint="engine=ray writes elsewhere; or copy the folder when the run is done.",
        )
    files = {} if config.input is None else find_measurements(given) or find_images(given)
    config = with_devices(config, len(files) or config.samples, launch)
    place = make_place(config, launch)
    references = _references(config, files)
    folder = RunFolder(Path(config.output))
    begins = place.rank == 0 and not config.resume
    if begins:
        folder.check()
    generator = config.generator.make(imports=True)
    source, origin, bad = _source(config, files, generator)
    # Often they are the images themselves: one that cannot be used needs no true image.
    for path in (references[i] for i in references if i not in bad):
        check_generated(path, image_size(path), generator)
    if config.outside:
        config.outside.require()
        config.outside.check_image(_first(source, bad).operator)
    config = _with_batch_size(config, place, folder, generator, source)
    task = None if config.outside else make_task(config, generator, source, config.schedule)
    later = None if config.outside else config.following
    start = Predecessors(folder, source.ids)
    follower = make_task(config, generator, source, later, start) if later else None
    if begins:
        folder.check(bytes_needed=len(source.ids) * _bytes_of_an_image(generator, task))
    needed = belongings(config, files)
    return Assembly(config, place, folder, needed, references, source, origin, bad, task, follower)


@contextmanager
def reached(given: str) -> Iterator[Path]:
    """Yield where the images of a run are on this machine: videos are unpacked, what is elsewhere is fetched.

    Raises:
        IloError: they cannot be read.
    """
    with fetched(given) if is_remote(given) else unpacked(Path(given)) as here:
        yield here


def _bytes_of_an_image(generator: SplitGenerator, task: InverseTask | None) -> int:
    """Return about how much is written for one image."""
    samples = task.schedule.samples if task else 0
    return math.prod(generator.image_shape[1:]) * (BYTES_PER_PIXEL + BYTES_PER_SAMPLE * samples)


def _first(source: MeasurementSource, bad: Mapping[str, str]) -> Batch:
    """Return the first image that can be used."""
    return source.load([next(n for n, i in enumerate(source.ids) if i not in bad)])


def _with_batch_size(
    config: RunConfig,
    place: Place,
    folder: RunFolder,
    generator: SplitGenerator,
    source: MeasurementSource,
) -> RunConfig:
    """Return the run with its number of images in a batch: that of the run in the folder, if any."""
    if config.batch_size != "auto":
        return config
    size = _known_batch_size(config, place, folder)
    if size is None and (config.outside or config.ordered):
        size = 1
    if size is None:

        def make(count: int) -> InverseTask:
            sized = config.model_copy(update={"batch_size": count})
            return make_task(sized, generator, source, config.schedule)

        cuda = uses_cuda(config.trainer)
        size = measured_batch_size(
            make,
            math.ceil(len(source.ids) / place.world),
            torch.device("cuda" if cuda else "cpu"),
            choose_precision(config.trainer),
        )
    return config.model_copy(update={"batch_size": size})


def _known_batch_size(config: RunConfig, place: Place, folder: RunFolder) -> int | None:
    """Return how many images the run in the folder has in a batch, ``None`` where there is none to go on with."""
    if place.rank > 0:
        await_run(folder)
    elif not config.resume:
        return None
    try:
        record = RunRecord.read(folder)
    except ConfigurationError:
        if not config.allow_changes:
            raise
        return None
    return record.batch_size if record is not None else None


def make_task(
    config: RunConfig,
    generator: SplitGenerator,
    source: MeasurementSource,
    schedule: Schedule,
    start: Start | None = None,
) -> InverseTask:
    """Return the inverse problem of a configuration whose batch size is a number.

    Raises:
        IloError: source, generator and schedule do not fit each other.
    """
    assert config.batch_size != "auto"
    strength = config.noise.strength
    return InverseTask(
        generator,
        None,
        source,
        schedule=schedule,
        start=start,
        seed=config.seed,
        batch_size=config.batch_size,
        noise_sigma=None if strength is None else strength / GREY_LEVELS,
        consistency=config.consistency,
        grain=config.grain,
    )


def _source(
    config: RunConfig, files: Mapping[str, Path], generator: SplitGenerator
) -> tuple[MeasurementSource, Origin, dict[str, str]]:
    """Return where measurements come from, how they are made, and why images cannot be used, by id."""
    shape = generator.image_shape
    operator, noise = (s.model_dump(mode="json") for s in (config.operator, config.noise))
    origin = Origin(shape, config.seed, config.task.name, operator, noise)
    if isinstance(config.operator, ClassifierSpec):
        classifier = config.operator.classifier(shape)
        target = classifier.target(config.operator.target).expand(config.samples, -1)
        ids = [f"sample{i}" for i in range(config.samples)]
        return InMemory(classifier, target, ids), origin, {}
    together = 1 if config.batch_size == "auto" else config.batch_size
    if next(iter(files.values())).suffix.lower() == SUFFIX:
        saved = MeasurementFolder(files, config.operator, config.noise, generator)
        return saved, saved.origin, saved.check(together)
    maker = config.operator.maker(shape, config.seed)
    images = image_source(config, files, generator, maker)
    return images, origin, images.check(together)


def image_source(
    config: RunConfig, files: Mapping[str, Picture], generator: SplitGenerator, maker: OperatorMaker
) -> ImageFolder:
    """Return images as the source of the measurements that a configuration says."""
    return ImageFolder(
        files,
        maker,
        generator,
        config.seed,
        simulate=config.simulate,
        noise=config.noise,
    )


def _references(config: RunConfig, files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the true images by id; one input and one reference belong together whatever their names."""
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
