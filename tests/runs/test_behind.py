"""What goes on beside the search: results are written, and the next batch is read."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ilo_pl.errors import OutputError, Stopped
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.runs.batches import Remembering
from ilo_pl.runs.behind import Finisher
from ilo_pl.runs.entry import Entry
from ilo_pl.runs.ledger import Ledger
from ilo_pl.runs.sources import ImageFolder
from ilo_pl.runs.writer import ResultWriter
from tests.runs.conftest import NAMES, At, files_of

Go = Callable[..., str]
SECONDS = 60


def test_a_batch_is_written_while_the_next_is_searched(go: Go, tmp_path: Path) -> None:
    """The first batch's files wait for the second batch's first steps; they would wait for ever in its way."""
    go(tmp_path / "plain")
    searched, write = threading.Event(), ResultWriter._write

    def later(*arguments: Any) -> Any:
        assert searched.wait(SECONDS), "the next search waits for files of the one before"
        return write(*arguments)

    with patch.object(ResultWriter, "_write", later):
        go(tmp_path / "beside", callbacks=(At(14, searched.set),))
    assert files_of(tmp_path / "plain") == files_of(tmp_path / "beside")


def test_a_stop_in_the_next_search_loses_nothing_of_the_batch_before(
    go: Go, tmp_path: Path
) -> None:
    searched, write = threading.Event(), ResultWriter._write

    def later(*arguments: Any) -> Any:
        assert searched.wait(SECONDS)
        return write(*arguments)

    def stop() -> None:
        searched.set()
        raise Stopped(15)

    locked, finish = [], Ledger.finish

    def told(self: Ledger, unit: int, entry: Entry) -> None:
        locked.append(unit in self._begun)
        finish(self, unit, entry)

    with (
        patch.object(ResultWriter, "_write", later),
        patch.object(Ledger, "finish", told),
        pytest.raises(Stopped),
    ):
        go(tmp_path / "out", callbacks=(At(14, stop),))
    assert locked == [True]  # or another process could have begun it
    (entry,) = (tmp_path / "out" / "state" / "units").iterdir()
    assert json.loads(entry.read_text())["ids"] == NAMES[:1]
    assert (tmp_path / "out" / "latents" / f"{NAMES[0]}.safetensors").exists()


def test_files_that_cannot_be_written_end_the_run(go: Go, tmp_path: Path) -> None:
    """Before the next batch has results; its search can be gone on with."""
    write = ResultWriter._write

    def full(self: ResultWriter, result: Reconstruction, *arguments: Any) -> Any:
        if result.id == NAMES[0]:
            raise OutputError("The disk is full.")
        return write(self, result, *arguments)

    with patch.object(ResultWriter, "_write", full), pytest.raises(OutputError, match="full"):
        go(tmp_path / "out")
    state = tmp_path / "out" / "state"
    assert not list(state.glob("units/*"))
    assert (state / "checkpoints" / "00001.ckpt").exists()


def test_a_folder_that_was_removed_is_not_made_again(go: Go, tmp_path: Path) -> None:
    searched, write = threading.Event(), Finisher._write

    def later(*arguments: Any) -> Any:
        assert searched.wait(SECONDS)
        return write(*arguments)

    def remove() -> None:
        shutil.rmtree(tmp_path / "out")
        searched.set()

    with patch.object(Finisher, "_write", later), pytest.raises(OutputError, match="removed"):
        go(tmp_path / "out", "report=false", callbacks=(At(14, remove),))
    assert not (tmp_path / "out" / "latents").exists()


def test_the_next_batch_is_read_ahead_and_once(go: Go, tmp_path: Path) -> None:
    """In the middle of a search the next images are there already; each is read once."""
    read, seen = [], []
    load = ImageFolder._load

    def told(self: ImageFolder, indices: tuple[int, ...]) -> Any:
        batch = load(self, indices)
        read.extend(batch.ids)
        return batch

    def look() -> None:
        second.wait(SECONDS)
        seen.extend(read)

    second = threading.Event()
    ahead = Remembering.ahead

    def announced(self: Remembering, indices: Any) -> None:
        ahead(self, indices)
        assert self._coming is not None
        self._coming[1].add_done_callback(lambda _: second.set())

    with patch.object(ImageFolder, "_load", told), patch.object(Remembering, "ahead", announced):
        go(tmp_path / "out", callbacks=(At(6, look),))
    assert seen == NAMES[:2]
    assert read == NAMES


def test_a_damaged_image_that_was_read_ahead_is_left_out(
    go: Go, folder: Path, tmp_path: Path
) -> None:
    (folder / f"{NAMES[1]}.png").write_bytes((folder / f"{NAMES[1]}.png").read_bytes()[:-200])
    go(tmp_path / "out")
    failures = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in failures] == ["id", NAMES[1]]
    assert (tmp_path / "out" / "reconstructions" / f"{NAMES[2]}.png").exists()
