"""Stops, damage and numbers that are not finite, while a run goes on."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Schedule, Stage
from ilo_pl.callbacks.checkpoint import Checkpointing
from ilo_pl.callbacks.checkpoint_io import SafeCheckpointIO
from ilo_pl.callbacks.events import EventLog
from ilo_pl.callbacks.signals import StopSignals
from ilo_pl.errors import ConfigurationError, InputError, OutputError, Stopped
from ilo_pl.inversion.stage import ILOStage
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.ledger import Ledger
from ilo_pl.runs.locks import Locks
from tests.runs.conftest import NAMES, At, files_of

Go = Callable[..., str]
Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def hold(path: Path, taken: Any) -> None:
    """Hold the lock of a batch until this process is ended."""
    assert Locks(path).take(0, alone=False)
    taken.set()
    time.sleep(60)


def test_who_waits_for_another_process_hears_signals(tmp_path: Path) -> None:
    """All that is left is being searched by a process that does not end."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "run.json").write_text("{}")
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "state" / "locks", taken))
    other.start()
    try:
        assert taken.wait(60)
        ledger = Ledger(RunFolder(tmp_path), [("a",)])
        with StopSignals() as stop:
            pending = ledger.pending(0, 2, lambda: stop.received or terminate())
            assert list(pending) == []
            assert stop.received == signal.SIGTERM
        shutil.rmtree(tmp_path / "state" / "units", ignore_errors=True)
        (tmp_path / "state" / "run.json").unlink()
        with pytest.raises(OutputError, match="removed"):
            list(ledger.pending(0, 2))
    finally:
        other.kill()
        other.join()


def test_a_signal_at_a_last_step_loses_no_row(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        go(out, callbacks=(At(12, terminate),))
    assert [p.name for p in (out / "state" / "units").iterdir()] == ["00000.json"]
    go(out, "resume=true")
    rows = list(csv.DictReader((out / "seconds.csv").read_text().splitlines()))
    assert [r["id"] for r in rows] == NAMES


def test_a_folder_that_is_removed_ends_the_run(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    begun: list[int] = []
    with pytest.raises(OutputError, match="was removed"):
        go(
            out,
            "batch_size=1",
            callbacks=(At(7, lambda: shutil.rmtree(out)), At(13, lambda: begun.append(1))),
        )
    assert not begun and not (out / "reconstructions").exists()


def test_what_cannot_be_read_holds_up_no_other_image(go: Go, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "lost.png").symlink_to("moved.png")
    (folder / "raw.cr2").write_bytes(b"x")
    for more in ((), ("resume=true",)):
        go(out, f"reference={folder}", *more)
        for name, found in (("failures.csv", ["lost", "raw"]), ("metrics.csv", NAMES)):
            rows = list(csv.DictReader((out / name).read_text().splitlines()))
            assert [r["id"] for r in rows] == found
    # What could not be read is not what can be.
    (folder / "lost.png").unlink()
    (folder / "lost.png").write_bytes((folder / f"{NAMES[0]}.png").read_bytes())
    with pytest.raises(ConfigurationError, match=r"lost.*has other content"):
        go(out, "resume=true")


def test_folders_in_the_place_of_files_that_are_tidied_up(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(out)
    (out / "state" / "units" / "00000.json").unlink()
    strange = [out / name / "x" for name in ("failures.csv", ".grid.png.1.part")]
    for folder in (*strange, out / "state" / "checkpoints" / "00000.ckpt.previous" / "x"):
        folder.mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"ckpt.previous.*It is skipped"):
        go(out, "resume=true")
    assert all(folder.is_dir() for folder in strange)


def test_a_folder_in_a_logs_place_is_said(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "log" / "events.rank0.jsonl").mkdir(parents=True)
    (out / "state").mkdir()
    with pytest.raises(OutputError, match="not empty"):
        go(out)
    shutil.rmtree(out)

    class Blocks(pl.Callback):
        def on_train_start(self, *args: Any) -> None:
            (out / "log" / "events.rank0.jsonl").mkdir(parents=True)

    with pytest.raises(OutputError, match=r"events.rank0.jsonl cannot be written"):
        go(out, callbacks=(Blocks(),))


def test_an_image_whose_loss_was_never_finite_has_no_result(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ILOStage.objective

    def faulty(stage: ILOStage, step: int) -> tuple[Tensor, Tensor]:
        selector, total = original(stage, step)
        hurt = torch.tensor([1.0, torch.nan, 1.0])
        return selector * hurt, total * hurt

    monkeypatch.setattr(ILOStage, "objective", faulty)
    out = tmp_path / "out"
    go(out, "batch_size=3")
    rows = list(csv.DictReader((out / "failures.csv").read_text().splitlines()))
    assert [r["id"] for r in rows] == ["b"] and "never finite" in rows[0]["reason"]
    assert {Path(name).stem.split(".")[0] for name in files_of(out)} == {"a", "c"}
    assert (out / "grid.png").exists()
    # It is done: to go on does not search it again, and does not call it damaged.
    assert "again" not in go(out, "batch_size=3", "resume=true")
    assert (out / "failures.csv").exists()


def test_a_stage_without_steps_takes_no_time(make_task: MakeTask, fit: Fit, tmp_path: Path) -> None:
    schedule = Schedule(stages=(Stage(split=0, steps=0), Stage(split=1, steps=3)))
    log = EventLog(tmp_path / "log.jsonl")
    fit(make_task(schedule, (0, 1), batch_size=1), callbacks=[log])
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e["steps"] for e in events] == [0, 3, 0, 3]
    assert all(e["seconds"] < 60 for e in events)


# A checkpoint with a right checksum and wrong content ------------------------------------------------


def moments(checkpoint: dict[str, Any]) -> None:
    state = checkpoint["optimizer_states"][0]["state"]
    for entry in state.values():
        entry["exp_avg"] = entry["exp_avg"].flatten()[:3]


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no walk": lambda c: c.pop("ilo"),
    "no moments": lambda c: c["optimizer_states"][0]["state"].clear(),
    "other moments": moments,
    "another rate": lambda c: c["lr_schedulers"][0].update(last_epoch=1),
    "not finite": lambda c: [
        v.fill_(torch.nan) for n, v in c["state_dict"].items() if n == "stage.latents"
    ],
}


def test_wrong_content_is_skipped_and_searched_again(go: Go, tmp_path: Path) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    go(whole)
    with pytest.raises(Stopped):
        go(first, callbacks=(At(4, terminate),))
    (path,) = (first / "state" / "checkpoints").glob("*.ckpt")
    saved = SafeCheckpointIO()
    loaded = path.relative_to(first)
    for change in ("no moments", "no walk"):
        out = tmp_path / change
        shutil.copytree(first, out)
        checkpoint = saved.load_checkpoint(out / loaded)
        WRONG[change](checkpoint)
        saved.save_checkpoint(checkpoint, out / loaded)
        (out / f"{loaded}.previous").unlink()
        with pytest.warns(UserWarning, match="skipped"):
            go(out, "resume=true")
        assert files_of(out) == files_of(whole)


@pytest.mark.parametrize("change", ["no moments", "other moments", "another rate", "not finite"])
def test_wrong_content_is_refused_in_python(
    make_task: MakeTask, fit: Fit, tmp_path: Path, change: str
) -> None:
    task = make_task(Schedule(stages=(Stage(split=0, steps=8),)), (0,))
    options: dict[str, Any] = {"plugins": [SafeCheckpointIO()], "enable_checkpointing": True}
    path = tmp_path / "x.ckpt"

    def saving(**more: Any) -> list[pl.Callback]:
        return [Checkpointing(path, **more)]

    fit(task, callbacks=saving(steps=5), **options)
    checkpoint = SafeCheckpointIO().load_checkpoint(path)
    WRONG[change](checkpoint)
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    with pytest.raises(InputError, match="makes no sense at step 5"):
        fit(task, ckpt_path=str(path), callbacks=saving(), **options)
