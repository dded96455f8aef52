"""``report.html`` of experiments and of the demo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from ilo_pl.io.folder import RunFolder
from ilo_pl.paper.experiment_page import _run
from tests.conftest import command
from tests.runs.conftest import draw, folder, go  # noqa: F401  # fixtures
from tests.runs.test_report import page_of, rows_of, tables, text_of

FAST = ["generator=tiny", "method.splits=[0,1]", "method.steps=4", "method.free_noises=4"]


def test_the_page_of_an_experiment_lays_its_methods_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "faces", ["ann", "bob"], seed=7)
    out = tmp_path / "out"
    swept = ["methods=[csgm,ilo]", "levels=[0.2,0.5]", f"input={tmp_path / 'faces'}"]
    arguments = ["experiment", "figure2_inpainting", f"output={out}", *swept, *FAST]
    assert command(monkeypatch, *arguments, "report=false") == 0
    assert not list(out.rglob("report.html"))
    assert command(monkeypatch, *arguments) == 0  # nothing is left to run, but the page
    assert list(out.rglob("report.html")) == [out / "report.html"]
    page = page_of(out)
    results = {(r["image"], r["level"], r["method"]): r for r in rows_of(out / "results.csv")}
    (shown,) = tables(page, "sortable")
    names = {"CSGM": "csgm", "ILO": "ilo"}
    for row in shown:
        image, level, method = (text_of(row[c]) for c in ("image", "level", "method"))
        own = results.pop((image, level, names[method]))
        assert float(row["PSNR (dB)"].get("data-value", "")) == float(own["psnr"])
    assert results == {}
    cases = [s for s in page.iter("section") if s.get("class") == "card case"]
    assert len(cases) == 4
    for case in cases:
        labels = [text_of(option) for option in next(case.iter("select"))]
        assert labels == ["measurements", "CSGM", "ILO", "reference"]
    links = [a.get("href", "") for a in page.iter("a")]
    assert all((out / unquote(link)).is_file() for link in links if not link.startswith("#"))
    assert "runs/ilo-0.5/reconstructions/bob.png" in links


def test_a_run_is_found_by_six_digits_of_its_level(tmp_path: Path) -> None:
    for name in ("ilo-0.123456789", "ilo-0.2", "ilo_tuned-0.123457", "ilo-x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    found = _run(RunFolder(tmp_path), "ilo", "0.123457")
    assert found.path.name == "ilo-0.123456789"


def test_the_page_of_the_demo_is_made_of_what_there_is(
    go: Callable[..., str],  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.png").unlink()
    (folder / "c.png").rename(folder / "portrait.png")
    demo = tmp_path / "demo"
    go(demo / "box" / "ilo", f"reference={folder}")
    shutil.copytree(demo / "box" / "ilo", demo / "box" / "gaussian_filling")
    assert command(monkeypatch, "report", str(demo)) == 0
    page = page_of(demo)
    (case,) = (s for s in page.iter("section") if s.get("class") == "card case")
    assert text_of(next(case.iter("h2"))) == "A box over the mouth"
    (methods,) = tables(case)
    scores = rows_of(demo / "box" / "ilo" / "metrics.csv")
    shown = [row["PSNR (dB)"].get("data-value") for row in methods]
    assert shown == [repr(float(scores[0]["psnr"]))] * 2
    assert "box/ilo/report.html" in [a.get("href") for a in page.iter("a")]
