"""What the command says: lines of JSON that a program can read, nothing where it is told to be quiet, the worst first."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command

KEYS = ("generator=tiny", "method=csgm", "method.steps=3", "logger=none", "report=false")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve pictures, and a file that is none."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32)).save(folder / f"face{number:02d}.png")
    (folder / "no.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def said(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> dict[str, tuple[str, str]]:
    """What it says of the same run with each option: on standard output and on standard error."""
    found = {}
    for option in ("", "--json", "--quiet"):
        output = tmp_path / f"out{option}"
        given = [f"input={faces}", f"reference={faces}", f"output={output}", *KEYS, "batch_size=4"]
        assert command(monkeypatch, "invert", *given, *filter(None, [option])) == 3
        found[option] = tuple(capfd.readouterr())
    return found


def scores_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_run_says(said: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    out, _ = said["--json"]
    events = [json.loads(line) for line in out.splitlines()]
    images = [e for e in events if e["event"] == "image"]
    assert sorted(e["id"] for e in images) == [f"face{n:02d}" for n in range(12)]
    assert all(e["seconds"] > 0 and e["measured_error"] < 0.5 for e in images)
    assert [e["id"] for e in events if e["event"] == "failure"] == ["no"]
    end = events[-1]
    assert end["event"] == "end" and end["complete"] is False
    rows = scores_of(tmp_path / "out--json")
    told = {row["id"]: row["psnr"] for row in end["scores"]}
    assert told == pytest.approx({row["id"]: float(row["psnr"]) for row in rows}, abs=1e-3)

    assert said["--quiet"] == ("", "")

    out, err = said[""]
    assert all(f"face{n:02d}: " in err for n in range(12)) and "no: not used." in err
    assert "100%" in err
    worst = sorted(rows, key=lambda row: float(row["psnr"]))
    shown = [out.index(row["id"]) for row in worst[:10]]
    assert shown == sorted(shown) and not any(row["id"] in out for row in worst[10:])
    assert "2 more in metrics.csv" in " ".join(out.split())
    # There is no terminal, so there are no colours.
    assert "\x1b" not in out + err


def test_json_is_of_one_run(monkeypatch: pytest.MonkeyPatch, faces: Path, tmp_path: Path) -> None:
    keys = [f"input={faces}", f"output={tmp_path / 'sweep'}", *KEYS, "seed=0,1"]
    assert command(monkeypatch, "invert", "--multirun", "--json", *keys) == 2
    assert not (tmp_path / "sweep").exists()
