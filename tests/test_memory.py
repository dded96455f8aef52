"""How many images fit on a device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from ilo_pl import InverseTask
from ilo_pl.config.compose import load_config
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs import run
from ilo_pl.runs.batch_size import fitting, measured_batch_size
from ilo_pl.runs.record import RunRecord
from ilo_pl.runs.setup import assemble


@pytest.mark.parametrize(
    ("one", "two", "available", "count"),
    [
        (30, 50, 100, 3),  # 80 = 30 + 2 * 20 + 10
        (30, 50, 87, 2),
        (30, 50, 20, 1),
        (30, 30, 10**9, 256),
    ],
)
def test_memory_grows_linearly(one: int, two: int, available: int, count: int) -> None:
    assert fitting(one, two, available) == count


def test_a_cpu_takes_one_image() -> None:
    def make(count: int) -> InverseTask:
        raise AssertionError("nothing to measure")

    assert measured_batch_size(make, 100, torch.device("cpu"), "32-true") == 1


def test_a_run_keeps_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would fit when it is resumed, or in another process."""
    sizes: list[int] = []

    def pretend(make: object, images: int, *more: object) -> int:
        sizes.append(images)
        return 2

    monkeypatch.setattr("ilo_pl.runs.setup.measured_batch_size", pretend)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (32, 32), (90, 60, 30)).save(folder / f"{name}.png")
    keys = [f"input={folder}", f"output={out}", "generator=tiny", "method.splits=[0,2]"]
    keys += ["method.steps=3", "method.free_noises=0", "batch_size=auto"]
    run.run(load_config(keys), Console(quiet=True))
    assert sizes == [3]
    record = RunRecord.read(RunFolder(out))
    assert record is not None
    assert record.batch_size == 2
    units = sorted(p.name for p in (out / "state" / "units").iterdir())
    assert units == ["00000.json", "00001.json"]
    resumed = assemble(load_config([*keys, "resume=true"]), folder, launch=False)
    assert resumed.task is not None
    assert resumed.task.units == ((0, 1), (2,))
    assert sizes == [3]
