"""Batches in, results out: a search without a run folder, for whoever brings images and keeps results himself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import final

from ilo_pl.config.compose import load_search_config
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.config import ClassifierSpec
from ilo_pl.runs.outcome import Outcome
from ilo_pl.runs.warm import Given, WarmSearch


@final
class Inverter:
    """Searches the images that it is handed, and hands back what it found.

    It writes nothing, has no signal handlers, and leaves the process as it was; an image of one id, seed and configuration
    gets the bits that ``ilo-pl invert`` gives it, on a machine with the same number of threads. What it loads and
    compiles at the first call stays for the next. It can be pickled, before and after use: a configuration travels, and
    the copy loads for itself. Calls of several threads wait for each other.

    Args:
        given: overrides ``key=value`` of ``ilo-pl invert``, without those of folders (``input``, ``output``,
            ``resume``, ...); or one composed configuration. Keys of reports, logs and checkpoints have no effect.
            ``compile=auto`` decides for many images.

    Raises:
        ConfigurationError: a key or its value cannot be used.
    """

    def __init__(self, *given: str | RunConfig) -> None:
        if len(given) == 1 and isinstance(given[0], RunConfig):
            config = given[0]
        else:
            texts = [text for text in given if isinstance(text, str)]
            if len(texts) < len(given):
                raise ConfigurationError(
                    "An Inverter is made of overrides key=value, or of one RunConfig alone."
                )
            config = load_search_config(texts)
        _check(config)
        self.config = config
        self._warm: WarmSearch | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Inverter], tuple[RunConfig]]:
        """Return what a copy is made of: the configuration."""
        return Inverter, (self.config,)

    def prepare(self) -> None:
        """Load what is needed; the first call does it otherwise.

        Raises:
            IloError: the generator, a mask, a package or the device is not there, or they do not fit.
        """
        with self._lock:
            self._prepared()

    def __call__(
        self,
        images: Sequence[Given],
        ids: Sequence[str] | None = None,
        references: Sequence[Given | None] | None = None,
    ) -> list[Outcome]:
        """Search images, ``batch_size`` of the configuration at a time, in order.

        Args:
            images: NumPy arrays ``(H, W, C)`` or tensors ``(C, H, W)``, uint8 or floating point in [-1, 1]; bytes of
                picture files; or paths. With ``simulate=false`` they are what was measured; measurements that are no
                pictures are tensors or arrays of the operator's shape.
            ids: their ids, by which random numbers are drawn; ``image0``, ``image1``, ... by default. ``ilo-pl
                invert`` takes the file's name without suffix.
            references: the true images, for scores only; ``None`` where there is none.

        Returns:
            What became of each, in order. An image that cannot be used has a ``failure``, and holds up no others.

        Raises:
            IloError: nothing can be searched with this configuration, on this machine.
            ValueError: there are not as many ids or references as images, or two ids are the same.
        """
        ids = _ids(ids, len(images))
        truths = list(references) if references is not None else [None] * len(images)
        if len(truths) != len(images):
            raise ValueError(f"{len(images)} images and {len(truths)} references were given.")
        with self._lock:
            warm = self._prepared()
            pairs = zip(ids, truths, strict=True)
            known = {i: warm.reference(i, truth) for i, truth in pairs if truth is not None}
            given = dict(zip(ids, images, strict=True))
            size = warm.batch_size(given)
            batches = (ids[start : start + size] for start in range(0, len(ids), size))
            outcomes = [o for batch in batches for o in warm.search({i: given[i] for i in batch})]
            return [warm.scored(outcome, known.get(outcome.id)) for outcome in outcomes]

    def _prepared(self) -> WarmSearch:
        if self._warm is None:
            self._warm = WarmSearch(self.config)
        return self._warm


def _check(config: RunConfig) -> None:
    """Refuse runs that are more than images by themselves on one device."""
    if isinstance(config.operator, ClassifierSpec) or config.ordered:
        raise ConfigurationError(
            "An Inverter searches images by themselves: no generation towards a class, no follow=frames.",
            hint="Use ilo-pl invert.",
        )
    trainer = config.trainer
    if trainer.devices not in ("auto", 1) or trainer.num_nodes != 1:
        raise ConfigurationError(
            f"trainer.devices = {trainer.devices}, trainer.num_nodes = {trainer.num_nodes}: an Inverter has one "
            "device.",
            hint="Make an Inverter for each device, in a process of its own.",
        )


def _ids(ids: Sequence[str] | None, count: int) -> list[str]:
    """Return one id for each image."""
    found = [f"image{i}" for i in range(count)] if ids is None else list(ids)
    if len(found) != count:
        raise ValueError(f"{count} images and {len(found)} ids were given.")
    if len(set(found)) < count or not all(isinstance(i, str) and i for i in found):
        raise ValueError("Every image needs an id of its own, which is text.")
    return found
