"""Sweeps of the command: what is run, what a failure costs, what goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from ilo_pl.io.images import to_bytes, to_picture
from ilo_pl.io.tables import read_table
from tests.conftest import command

TINY = (
    "generator=tiny", "method=csgm", "method.steps=3", "method.free_noises=0", "report=false",
    "method.deviation.steps=0", "compile=false",
)  # fmt: skip


@pytest.fixture
def faces(tmp_path: Path, truth: Tensor) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    to_picture(to_bytes(truth[0])).save(folder / "ann.png")
    return folder


def test_every_combination_is_run_and_gone_on_with(
    tmp_path: Path,
    faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, single = tmp_path / "sweep", tmp_path / "single"
    data = (f"input={faces}", f"reference={faces}")
    swept = ("seed=range(0,2)", "operator.fraction=0.5,1e-9")
    keys = ("invert", "--multirun", *TINY, *data, *swept, f"output={sweep}")
    assert command(monkeypatch, *keys) == 3
    rows = {row["run"]: row for row in read_table(sweep / "multirun.csv")}
    assert list(rows) == [
        f"seed-{seed}_operator.fraction-{share}" for seed in "01" for share in ("0.5", "1e-09")
    ]
    bad = rows["seed-1_operator.fraction-1e-09"]
    assert bad["status"] == "failed" and "cannot be observed" in bad["error"]
    assert not (sweep / bad["run"]).exists()
    good = rows["seed-1_operator.fraction-0.5"]
    assert good["status"] == "done" and good["images"] == "1" and good["seed"] == "1"
    # What a member finds is what the same run finds alone.
    alone = ("invert", *TINY, *data, "seed=1", "operator.fraction=0.5", f"output={single}")
    assert command(monkeypatch, *alone) == 0
    for name in ("reconstructions/ann.png", "metrics.csv"):
        assert (single / name).read_bytes() == (sweep / good["run"] / name).read_bytes()
    score = read_table(single / "metrics.csv")[0]
    assert float(good["psnr"]) == pytest.approx(float(score["psnr"]), rel=1e-4)

    assert command(monkeypatch, *keys) == 2
    assert "is not empty" in capsys.readouterr().err
    before = {row["run"]: row["seconds"] for row in rows.values()}
    more = (*keys[:-2], "operator.fraction=0.5,0.9", f"output={sweep}", "resume=true")
    assert command(monkeypatch, *more) == 0
    now = {row["run"]: row for row in read_table(sweep / "multirun.csv")}
    assert [row["status"] for row in now.values()] == ["done"] * 4
    kept = {name for name in before if before[name] and now[name]["seconds"] == before[name]}
    assert kept == {"seed-0_operator.fraction-0.5", "seed-1_operator.fraction-0.5"}
    assert command(monkeypatch, *more, "consistency=false") == 2
    assert "was run with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("seed=1",), "no key has several values"),
        (("seed=1,2", "method=ilo,iol"), "no method 'iol'"),
        (("seed=interval(0,1)",), "not of the form"),
        (("seed=1,1",), "is given twice"),
        (("seed=1,2", "seed=3"), "'seed' is given twice"),
        (("seed=1,2", "output=a,b"), "output must be given, once"),
    ],
)
def test_slips_are_found_before_any_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = () if any(text.startswith("output") for text in given) else ("output=sweep",)
    keys = ("invert", "-m", "generator=tiny", "input=face.png", *output, *given)
    assert command(monkeypatch, *keys) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
