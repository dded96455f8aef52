"""``report.html`` of runs, read as a browser reads it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest
from PIL import Image, ImageSequence

from ilo_pl.errors import Stopped
from ilo_pl.runs import report
from tests.conftest import command
from tests.runs.conftest import At, draw

Go = Callable[..., str]
HOSTILE = ["<script>alert(1)<", "a \"quoted\" & 'id'", "50%20#?"]


def page_of(folder: Path) -> Element:
    """Parse a page; anything that a browser would have to mend is an error."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    parsed: Element = parser.parse((folder / "report.html").read_text("utf-8"))
    return parsed


def text_of(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def tables(page: Element, kind: str | None = None) -> Iterator[list[dict[str, Element]]]:
    for table in page.iter("table"):
        if table.get("class") == kind:
            heads = [text_of(th) for th in table.iter("th")]
            (body,) = table.iter("tbody")
            yield [dict(zip(heads, row.iter("td"), strict=True)) for row in body]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose images have names that are code, and one that cannot be read."""
    root = tmp_path_factory.mktemp("hostile")
    draw(root / "in", HOSTILE, seed=3)
    draw(root / "true", [*HOSTILE, "<i>bad<i>"], seed=4)
    (root / "in" / "<i>bad<i>.png").write_bytes(b"no picture")
    with pytest.MonkeyPatch.context() as patch:
        keys = [f"input={root / 'in'}", f"reference={root / 'true'}", f"output={root / 'out'}"]
        few = ["method.splits=[0,2]", "method.steps=6", "method.free_noises=4", "generator=tiny"]
        assert command(patch, "invert", *keys, *few, "animation=true", "batch_size=2") == 3
    return root / "out"


def test_names_that_are_code_are_shown_and_nothing_runs_but_the_pages_own(hostile: Path) -> None:
    page = page_of(hostile)
    titles = [text_of(h) for h in page.iter("h2")]
    assert [t for t in titles if t in HOSTILE] == sorted(HOSTILE)
    (script,) = page.iter("script")
    (style,) = page.iter("style")
    (policy,) = (m.get("content", "") for m in page.iter("meta") if "http-equiv" in m.attrib)
    for element, kind in ((script, "script-src"), (style, "style-src")):
        digest = hashlib.sha256((element.text or "").encode()).digest()
        assert f"{kind} 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert not any(name.startswith("on") for e in page.iter() for name in e.attrib)
    (warning,) = (s for s in page.iter("section") if s.get("aria-label") == "Failures")
    assert "<i>bad<i>" in text_of(warning) and not list(page.iter("i"))


def test_the_page_needs_nothing_from_elsewhere_and_its_links_lead_to_files(hostile: Path) -> None:
    page = page_of(hostile)
    pictures = [i.get("src") for i in page.iter("img") if "src" in i.attrib]
    # Of each image: input, measurements, three stages, result, reference, the error and its legend.
    assert len(pictures) == 3 * 9
    assert all(p is not None and p.startswith("data:image/webp;base64,") for p in pictures)
    files = [a.get("href", "") for a in page.iter("a")]
    files += [i.get("data-src", "") for i in page.iter("img") if "data-src" in i.attrib]
    ids = {e.get("id") for e in page.iter() if "id" in e.attrib}
    for link in files:
        known = link[1:] in ids if link.startswith("#") else (hostile / unquote(link)).is_file()
        assert known, link
    assert not list(page.iter("link"))


def test_the_table_and_the_sections_say_what_the_tables_of_the_run_say(hostile: Path) -> None:
    page = page_of(hostile)
    (shown,) = tables(page, "sortable")
    metrics = {r["id"]: r for r in rows_of(hostile / "metrics.csv")}
    seconds = {r["id"]: r["seconds"] for r in rows_of(hostile / "seconds.csv")}
    assert {text_of(row["image"]) for row in shown} == set(HOSTILE) == set(metrics)
    for row in shown:
        own = metrics[text_of(row["image"])]
        for heading, column in (("PSNR (dB)", "psnr"), ("SSIM", "ssim"), ("LPIPS", "lpips")):
            assert float(row[heading].get("data-value", "")) == float(own[column])
        assert float(row["measured error"].get("data-value", "")) == float(own["measured_error"])
        spent = row["seconds"].get("data-value", "")
        assert float(spent) == float(seconds[text_of(row["image"])])
    drawings = list(page.iter("{http://www.w3.org/2000/svg}svg"))
    assert len(drawings) == 3
    assert all("stage 2 from step 7" in d.get("aria-label", "") for d in drawings)


def test_an_animation_ends_with_the_result(hostile: Path) -> None:
    for image_id in HOSTILE:
        with Image.open(hostile / "animation" / f"{image_id}.gif") as moving:
            frames = [np.asarray(f.convert("RGB"), float) for f in ImageSequence.Iterator(moving)]
        result = np.asarray(Image.open(hostile / "reconstructions" / f"{image_id}.png"), float)
        errors = [np.abs(frame - result).mean() for frame in frames]
        assert len(frames) > 5 and errors[-1] < 3 < errors[0]


def test_a_run_that_was_stopped_has_the_losses_and_frames_of_one_that_was_not(
    go: Go, tmp_path: Path
) -> None:
    """And its page is written again: nothing of it is missing any more."""
    keys = ["animation=true", "batch_size=2"]
    go(tmp_path / "whole", *keys)
    out = tmp_path / "out"

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        go(out, *keys, "resume=true", callbacks=(At(9, terminate),))
    report.report_run(report.RunFolder(out))
    assert "3 of 3 images have no result yet" in text_of(page_of(out))
    go(out, *keys, "resume=true")
    assert "no result yet" not in text_of(page_of(out))
    for kind in ("log/losses/*.csv", "animation/*.gif"):
        found = sorted((tmp_path / "whole").glob(kind))
        assert len(found) == 3
        for path in found:
            assert path.read_bytes() == (out / path.relative_to(tmp_path / "whole")).read_bytes()


def test_the_losses_of_an_image_are_those_of_its_search(go: Go, tmp_path: Path) -> None:
    """The lowest of the last stage is what the log says that stage ended with."""
    out = tmp_path / "out"
    go(out, "method.validation=0", "batch_size=3", "trainer.precision=32-true")
    events = [json.loads(s) for s in (out / "log/events.rank0.jsonl").read_text().splitlines()]
    ended = {e["image"]: e["loss"] for e in events if e["stage"] == 1}
    assert len(ended) == 3
    for image_id, loss in ended.items():
        rows = rows_of(out / "log" / "losses" / f"{image_id}.csv")
        assert [int(r["step"]) for r in rows] == list(range(1, 13))
        assert [r["stage"] for r in rows] == ["0"] * 6 + ["1"] * 6
        lowest = min(float(r["loss"]) for r in rows if r["stage"] == "1")
        assert lowest == pytest.approx(loss, rel=1e-4)


def test_a_fault_of_the_report_is_a_warning_and_the_run_is_done(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(report, "run_page", fail)
    with pytest.warns(UserWarning, match=r"report.html could not be made.*by nought"):
        go(tmp_path / "out")
    assert len(rows_of(tmp_path / "out" / "seconds.csv")) == 3
    assert not (tmp_path / "out" / "report.html").exists()


def test_without_a_report_nothing_is_kept_for_one_and_it_can_be_made_later(
    go: Go, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    go(out, "report=false", f"reference={folder}")
    assert not (out / "report.html").exists() and not (out / "log" / "losses").exists()
    # What samples of a posterior leave is among the pictures.
    (out / "posterior").mkdir()
    shutil.copy(out / "reconstructions" / "b.png", out / "posterior" / "b.standard_deviation.png")
    assert command(monkeypatch, "report", str(out)) == 0
    captions = [text_of(f) for f in page_of(out).iter("figcaption")]
    assert captions[-1] == "reference" and captions.count("posterior standard deviation") == 1
    # Pictures may be damaged, all of an image's too.
    for path in [*out.glob("*/a.*png"), *out.glob("*/b.png")]:
        path.write_bytes(b"no picture")
    assert command(monkeypatch, "report", str(out)) == 0
    left = [text_of(f) for f in page_of(out).iter("figcaption")]
    assert len(left) == len(captions) - 4 - 2  # a has its reference alone, and below not even that
    # The true images may be gone by then.
    folder.rename(folder.with_name("away"))
    assert command(monkeypatch, "report", str(out)) == 0
    assert "The pictures of reference are left out" in text_of(page_of(out))


@pytest.mark.parametrize("damage", ["seconds.csv", "config.yaml", None])
def test_what_is_no_run_or_a_damaged_one(
    go: Go,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str | None,
) -> None:
    out = tmp_path / "out"
    if damage is None:
        out.mkdir()
    else:
        go(out, "report=false")
        (out / damage).write_text("x,y\n1,2\n")
    assert command(monkeypatch, "report", str(out)) == 2
    assert str(out) in capsys.readouterr().err.replace("\n", "")
    assert not (out / "report.html").exists()
