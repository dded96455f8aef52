"""Batches of measurements that are read once, and what is done when one of their images cannot be used."""

from __future__ import annotations

import abc
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from ilo_pl.errors import InputError
from ilo_pl.inversion.source import Batch, MeasurementSource

_log = logging.getLogger(__name__)


class Remembering(MeasurementSource, abc.ABC):
    """A source that reads and measures nothing twice in a row: it keeps the batch that was asked for last.

    What is asked for next can be read beside a search (:meth:`ahead`).
    """

    _known: tuple[tuple[int, ...], Batch] | None = None
    _coming: tuple[tuple[int, ...], Future[Batch]] | None = None
    _reader: ThreadPoolExecutor | None = None

    def load(self, indices: Sequence[int]) -> Batch:
        """Return the measurements of some images; those of the batch before, or some of them, are at hand."""
        wanted = tuple(indices)
        known, batch = self._known or ((), None)
        if batch is None or not set(wanted) <= set(known):
            batch = self._read(wanted)
            self._known = wanted, batch
            _log.debug("loaded %s", ", ".join(batch.ids))
        elif wanted != known:
            places = [known.index(i) for i in wanted]
            ids = tuple(self.ids[i] for i in wanted)
            batch = Batch(ids, batch.measurements[places], batch.operator.select(places))
        return batch

    def ahead(self, indices: Sequence[int]) -> None:
        """Begin to read and measure some images, which will be asked for next; what is wrong with them is said then."""
        wanted = tuple(indices)
        if self._coming is None or self._coming[0] != wanted:
            self._reader = self._reader or ThreadPoolExecutor(1, "reading")
            self._coming = wanted, self._reader.submit(self._load, wanted)

    def _read(self, wanted: tuple[int, ...]) -> Batch:
        """Read some images, or wait for them; nothing is read beside others."""
        coming, self._coming = self._coming, None
        if coming is not None:
            if coming[0] == wanted:
                return coming[1].result()
            coming[1].exception()  # ends when it has ended
        return self._load(wanted)

    @abc.abstractmethod
    def _load(self, indices: tuple[int, ...]) -> Batch:
        """Read and measure some images."""


def usable(source: MeasurementSource, indices: Sequence[int]) -> tuple[list[int], dict[str, str]]:
    """Try to read images, and return those that can be inverted together and why others cannot, by id."""
    good: list[int] = []
    reasons: dict[str, str] = {}
    try:
        source.load(indices)
        return list(indices), reasons
    except InputError as error:
        together = error.what
    for index in indices:
        try:
            source.load([index])
            good.append(index)
        except InputError as error:
            reasons[source.ids[index]] = error.what
    if not reasons:
        return [], dict.fromkeys((source.ids[i] for i in indices), together)
    return good, reasons


def first_usable(
    source: MeasurementSource,
    indices: Sequence[int],
    errors: dict[str, InputError],
    together: int,
) -> dict[str, str]:
    """Read the first batch, or else images until one can be used; return why those found bad cannot."""
    first = [index for index in indices if index < together]
    if len(first) > 1:
        with suppress(InputError):
            source.load(first)
            return {image_id: error.what for image_id, error in errors.items()}
    for index in indices:
        try:
            source.load([index])
        except InputError as error:
            errors[source.ids[index]] = error
        else:
            return {image_id: error.what for image_id, error in errors.items()}
    raise next(iter(errors.values()))
