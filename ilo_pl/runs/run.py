"""One run from a configuration to a finished run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
from rich.console import Console
from rich.markup import escape

from ilo_pl.callbacks.animation import SearchAnimation
from ilo_pl.callbacks.loss_trace import LossTrace
from ilo_pl.callbacks.preview import LivePreview
from ilo_pl.callbacks.progress import StageProgress
from ilo_pl.callbacks.stage_pictures import StagePictures
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.evaluation.guided import GuidedScores, score_guided
from ilo_pl.evaluation.metrics import Scores, score_run
from ilo_pl.evaluation.posterior import score_posteriors
from ilo_pl.evaluation.report import MAX_ROWS, row_of, write_grid
from ilo_pl.evaluation.run_page import ANIMATION, LOSSES
from ilo_pl.io.tables import write_seconds
from ilo_pl.io.video import RATE, check_decoder, frame_rate, is_video, write_video
from ilo_pl.operators import Classifier
from ilo_pl.operators.config import ClassifierSpec
from ilo_pl.runs.entry import Entry
from ilo_pl.runs.ledger import FAILURES, Ledger
from ilo_pl.runs.loop import Problem, search
from ilo_pl.runs.outside import restore
from ilo_pl.runs.report import leave
from ilo_pl.runs.setup import Assembly, assemble, reached

# Where who looks on finds how a search is going.
LIVE = "live"


def run(
    config: RunConfig,
    console: Console,
    label: str = "",
    callbacks: Sequence[pl.Callback] = (),
    *,
    launch: bool = False,
    each: Callable[[Entry], object] | None = None,
) -> list[Scores] | list[GuidedScores]:
    """Invert every input image and write the run folder.

    Everything is checked before the folder is made. An image that cannot be used is reported in
    ``failures.csv``; the others are not held up.

    Args:
        config: the run.
        console: where progress is drawn.
        label: a word in front of it.
        callbacks: further ones for the Trainers; a method outside the engine has none.
        launch: whether the command may be started once more for each further device.
        each: is given each batch that this process has finished, perhaps by another thread.

    Returns:
        The scores, if references were given or a classifier was followed; none in further processes.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
        Stopped: a signal ended the run.
    """
    with reached(config.input or "") as given:
        ready = assemble(config, given, launch)
        return _run(ready, console, label, callbacks, each)


def _run(
    ready: Assembly,
    console: Console,
    label: str,
    callbacks: Sequence[pl.Callback],
    each: Callable[[Entry], object] | None,
) -> list[Scores] | list[GuidedScores]:
    # One process draws for all.
    console.quiet |= ready.place.rank > 0
    if ready.bad:
        first = next(iter(ready.bad.values()))
        console.print(
            escape(f"{len(ready.bad)} of {len(ready.source.ids)} images cannot be used: {first}")
        )
    share = _missing_share(ready)
    if share:
        console.print(f"{share:.1%} of the pixels are missing.", highlight=False)
    if ready.task is None:
        whole = _restore(ready, console, label, each)
    else:
        watching = [StageProgress(console, label), *_watchers(ready), *callbacks]
        whole = _search(ready, console, watching, each)
    if ready.place.rank:
        return []
    scores = _conclude(ready, whole)
    if ready.config.ordered:
        _write_video(ready, whole, console)
    if ready.config.report:
        leave(ready.folder)
    return scores


def _watchers(ready: Assembly) -> list[pl.Callback]:
    """Return what watches the search for those who look at it later."""
    config, folder = ready.config, ready.folder
    watchers: list[pl.Callback] = [LossTrace(folder, LOSSES)] if config.report else []
    if config.logger.pictures:
        watchers.append(StagePictures(config.logger.pictures))
    if config.animation:
        watchers.append(SearchAnimation(folder, ANIMATION))
    if config.preview:
        watchers.append(LivePreview(folder, LIVE, ready.place.rank))
    return watchers


def _missing_share(ready: Assembly) -> float:
    """Return the share of the measurements that a mask hides of the first image that can be used."""
    ids = ready.source.ids
    index = next(i for i, image_id in enumerate(ids) if image_id not in ready.bad)
    return float(ready.source.load([index]).operator.missing_share()[0])


def check(config: RunConfig) -> None:
    """Find what is wrong with a run, without a trace.

    Raises:
        IloError: something about the configuration, the input or the output cannot be used.
    """
    with reached(config.input or "") as given:
        assemble(config, given, launch=False)


def _search(
    ready: Assembly,
    console: Console,
    callbacks: Sequence[pl.Callback],
    each: Callable[[Entry], object] | None,
) -> Entry:
    """Run the engine; further processes return nothing of use."""
    config, place, ids, task = ready.config, ready.place, ready.source.ids, ready.task
    assert task is not None
    units = [tuple(ids[i] for i in unit) for unit in task.units]
    ledger = Ledger(
        ready.folder, units, ready.files, lambda text: console.print(text, markup=False), each
    )
    if place.rank > 0:
        ledger.join(config)
    else:
        ledger.begin(config)
    search(config, Problem(task, ready.origin, ready.follower), ledger, place, callbacks)
    if place.rank > 0:
        return Entry(())
    whole = ledger.close()
    write_seconds(ready.folder, whole.seconds)
    return whole


def _conclude(ready: Assembly, whole: Entry) -> list[Scores] | list[GuidedScores]:
    """Score what was found and draw the first images."""
    folder, references = ready.folder, ready.references
    found = whole.found
    if not found:
        if ready.config.report:
            leave(folder)
        raise InputError("No image could be used.", hint=f"{folder.path / FAILURES} says why.")
    scores = _scores(ready, whole)
    write_grid(folder, [row_of(folder, i, references.get(i)) for i in found[:MAX_ROWS]])
    return scores


def _restore(
    ready: Assembly, console: Console, label: str, each: Callable[[Entry], object] | None
) -> Entry:
    """Run the method outside the engine, with a line that says where it is."""
    config, source, folder = ready.config, ready.source, ready.folder
    assert config.outside is not None
    units = [(image_id,) for image_id in source.ids]
    one_by_one = Ledger(folder, units, ready.files, each=each)
    one_by_one.begin(config)
    with console.status("") as status:
        entries = restore(
            folder,
            source,
            config.outside,
            ready.origin,
            config.noise.sigma,
            save_measurements=config.save_measurements,
            told=lambda text: status.update(escape(f"{label} {text}")),
        )
        for unit, entry in enumerate(entries):
            one_by_one.finish(unit, entry)
    whole = one_by_one.close()
    write_seconds(folder, whole.seconds)
    return whole


def _write_video(ready: Assembly, whole: Entry, console: Console) -> None:
    """Write the reconstructions as ``video.mp4``, where videos can be written."""
    try:
        check_decoder()
    except ConfigurationError as error:
        console.print(f"video.mp4 is left out. {error}", markup=False)
        return
    config = ready.config
    source = Path(config.input or "")
    rate = config.rate or (frame_rate(source) if is_video(source) else RATE)
    results = ready.folder.path / "reconstructions"
    write_video([results / f"{i}.png" for i in whole.found], ready.folder.inside("video.mp4"), rate)


def _scores(ready: Assembly, whole: Entry) -> list[Scores] | list[GuidedScores]:
    config, folder, source, found = ready.config, ready.folder, ready.source, whole.found
    if isinstance(config.operator, ClassifierSpec):
        classifier = source.load([0]).operator
        assert isinstance(classifier, Classifier)
        target = classifier.index(config.operator.target)
        return score_guided(folder, found, classifier, target)
    known = set(found)
    references = {i: path for i, path in ready.references.items() if i in known}
    score_posteriors(folder, found, references)
    return score_run(folder, references, errors=whole.errors, further=config.metrics)
