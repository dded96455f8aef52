"""What a worker of a cluster does: reads a batch, searches it, writes its results, says so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ilo_pl.cluster.plan import FAILURES, RESULTS, Unit, part
from ilo_pl.cluster.tables import failures_table, results_table, rows_of
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import InputError
from ilo_pl.io.encoded import Encoded
from ilo_pl.io.remote import Storage
from ilo_pl.runs.inverter import Inverter
from ilo_pl.runs.outcome import Outcome, png

READERS = 8


class UnitSearch:
    """Searches batches for Ray Data: one for each worker, in a process of its own.

    Results are written here and not by the driver, so that no picture travels through Ray's memory, and a batch is done
    when its worker says so.

    Args:
        config: the run, as plain data.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = RunConfig(**config)
        assert self._config.input is not None and self._config.engine.name == "ray"
        self._kinds = self._config.engine.results
        self._input = Storage(self._config.input)
        self._truth = Storage(self._config.reference) if self._config.reference else None
        self._output = Storage(self._config.output)
        self._inverter = Inverter(self._config)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        """Search the batches of a few rows; return a row that says how each ended."""
        rows = [self._account(Unit.of(str(content))) for content in batch["content"]]
        return {column: [row[column] for row in rows] for column in rows[0]}

    def _account(self, unit: Unit) -> dict[str, Any]:
        """Search a batch; what goes wrong with all of it is said in its row, and holds up no others."""
        began = time.time()
        row: dict[str, Any] = {
            "unit": unit.number,
            "images": 0,
            "failed": 0,
            "bytes_in": 0,
            "bytes_out": 0,
            "read": 0.0,
            "searched": 0.0,
            "written": 0.0,
            "began": began,
            "worker": os.getpid(),
            "problem": "",
        }
        # A worker that died behind its last line has done it.
        if self._is_done(unit):
            return {**row, "images": len(unit.items)}
        try:
            return {**row, **self._search(unit)}
        except Exception as error:  # of a batch; the run goes on with others
            said = (str(error).splitlines() or [""])[0][:500]
            return {**row, "problem": f"{type(error).__name__}: {said}"}

    def _is_done(self, unit: Unit) -> bool:
        path = self._output.path(f"{RESULTS}/{part(unit.number)}")
        return self._output.has(path)

    def _search(self, unit: Unit) -> dict[str, Any]:
        clock = [time.perf_counter()]
        given, truths, lost = self._read(unit)
        clock.append(time.perf_counter())
        references = [truths.get(i) for i in given] if self._truth else None
        found = {o.id: o for o in self._inverter(list(given.values()), list(given), references)}
        outcomes = [lost.get(item.id) or found[item.id] for item in unit.items]
        clock.append(time.perf_counter())
        written = self._write(unit, outcomes)
        clock.append(time.perf_counter())
        return {
            "images": len(outcomes),
            "failed": sum(o.failure is not None for o in outcomes),
            "bytes_in": sum(len(one.data) for one in (*given.values(), *truths.values())),
            "bytes_out": written,
            "read": clock[1] - clock[0],
            "searched": clock[2] - clock[1],
            "written": clock[3] - clock[2],
        }

    def _read(
        self, unit: Unit
    ) -> tuple[dict[str, Encoded], dict[str, Encoded], dict[str, Outcome]]:
        """Return the files of a batch by id, those of its true images, and what cannot be read."""
        paths = dict(zip((item.id for item in unit.items), unit.references, strict=True))
        lost: dict[str, Outcome] = {}
        given: dict[str, Encoded] = {}
        truths: dict[str, Encoded] = {}
        with ThreadPoolExecutor(READERS) as pool:
            reading = {item.id: pool.submit(self._input.picture, item) for item in unit.items}
            true = {
                image_id: pool.submit(self._truth.read, path)
                for image_id, path in paths.items()
                if self._truth is not None and path is not None
            }
            for image_id, future in reading.items():
                try:
                    given[image_id] = future.result()
                except InputError as error:
                    lost[image_id] = Outcome(image_id, failure=error.what)
            for image_id, data in true.items():
                truths[image_id] = Encoded(str(paths[image_id]), data.result())
        return given, truths, lost

    def _write(self, unit: Unit, outcomes: list[Outcome]) -> int:
        """Write what was found, the table that marks the batch as done last; return how many bytes."""
        written = 0
        sources = [item.path for item in unit.items]
        files: dict[str, bytes] = {}
        if self._kinds != "tables":
            for outcome in outcomes:
                files |= _files(outcome)
        failed = [
            (o.id, source, o.failure)
            for o, source in zip(outcomes, sources, strict=True)
            if o.failure is not None
        ]
        if failed:
            files[f"{FAILURES}/{part(unit.number)}"] = failures_table(failed)
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self._output.write, files, files.values()))
        pictures = self._kinds != "files"
        table = results_table(rows_of(outcomes, sources, pictures=pictures), pictures=pictures)
        self._output.write(f"{RESULTS}/{part(unit.number)}", table)
        written += len(table) + sum(map(len, files.values()))
        return written


def _files(outcome: Outcome) -> dict[str, bytes]:
    """Return the files of an image as a run folder has them."""
    if outcome.failure is not None:
        return {}
    files = {f"reconstructions/{outcome.id}.png": outcome.png()}
    if outcome.picture is not None:
        files[f"measurements/{outcome.id}.png"] = png(outcome.picture)
    latents = outcome.safetensors()
    if latents is not None:
        files[f"latents/{outcome.id}.safetensors"] = latents
    return files


def lost_rows(unit: Unit, why: str) -> Iterable[tuple[str, str, str]]:
    """Return rows for the table of failures of a batch that no worker could finish."""
    return [(item.id, item.path, why) for item in unit.items]
