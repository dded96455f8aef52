"""From a photo to its download in a real browser, and the same again from the command line that it shows."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.conftest import command

CHROMIUM = shutil.which("chromium")
TINY = ["generator=tiny", "method.splits=[0,2]", "method.free_noises=4", "compile=false", "logger=none"]  # fmt: skip
ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync"),
]
PATIENCE = 300_000.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


class Served:
    """The app in a process of its own."""

    def __init__(self, folder: Path, *more: str) -> None:
        arguments = ["app", "--port", "0", "--folder", str(folder), *TINY, *more]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "ilo_pl", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[1]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_page(accept_downloads=True, viewport={"width": 1000, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.problems = []
        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: page.problems.append(str(e)))
        page.on("dialog", lambda dialog: dialog.accept())
        yield page
        browser.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo without a face, of which the middle will be taken."""
    noise = np.random.default_rng(1).normal(size=(80, 100, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0))
    path = tmp_path / "my <b>photo été.png"
    Image.fromarray((smooth / np.abs(smooth).max() * 120 + 128).astype(np.uint8)).save(path)
    return path


def download(page: Any, selector: str, path: Path) -> str:
    with page.expect_download() as info:
        page.click(selector)
    info.value.save_as(path)
    return str(info.value.suggested_filename)


def drag(page: Any, *points: tuple[float, float]) -> None:
    """Draw a stroke over the canvas, at shares of its width."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def again(
    monkeypatch: pytest.MonkeyPatch, commands: list[str], archive: Path, folder: Path
) -> None:
    """Run what the page shows, with the photo and what was painted, in a folder of its own."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as given:
        for name in ("photo.png", "painted.png"):
            given.extract(name, folder)
    monkeypatch.chdir(folder)
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "ilo-pl"
        assert command(monkeypatch, *arguments) == 0


def test_from_a_photo_to_its_download_and_the_same_by_command_line(
    page: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(tmp_path / "app", "method.steps=250")
    try:
        page.goto(served.address)
        page.set_input_files("#file", str(photo))
        page.wait_for_selector("text=No face was found")
        assert page.inner_text("#photo-name") == f"{photo.name}, 100 x 80 pixels"
        page.click("#middle")
        page.wait_for_selector("#canvas-face[src]")
        page.select_option("[name=size]", "32")

        drag(page, (0.1, 0.1), (0.9, 0.9))
        page.click("#undo")
        assert page.inner_text("#marked") == "nothing marked yet"
        drag(page, (0.3, 0.3), (0.6, 0.3))
        page.click("summary:has-text('A box by numbers')")
        for label, value in (("Left", 20), ("Top", 20), ("Right", 26), ("Bottom", 28)):
            page.fill(f"#box label:has-text('{label}') input", str(value))
        page.click("#add-box")
        page.click("#start")

        # A reload in the middle finds the search again; it is stopped and gone on with.
        page.wait_for_selector("text=/step [1-9][0-9]* of/")
        page.reload()
        page.wait_for_selector("text=/step [1-9][0-9]* of/")
        assert page.locator("#marked").inner_text() != "nothing marked yet"
        page.click(".stop")
        page.wait_for_selector(".state:text-is('stopped')")
        page.click(".go-on")
        page.wait_for_selector(".state:text-is('done')")
        page.wait_for_function("document.querySelector('.frame .under').naturalWidth > 0")
        name = download(page, ".get-photo", tmp_path / "restored.png")
        assert name.endswith("photo été restored.png")
        download(page, ".get-zip", tmp_path / "all.zip")
        download(page, ".get-face", tmp_path / "face.png")
        page.click(".commands summary")
        commands = page.inner_text(".commands pre").splitlines()
    finally:
        served.end()
    assert page.problems == []

    again(monkeypatch, commands, tmp_path / "all.zip", tmp_path / "again")
    mine, shown = (np.asarray(Image.open(p)) for p in (photo, tmp_path / "restored.png"))
    own = np.asarray(Image.open(tmp_path / "again" / "restored" / "photo.png"))
    assert (own == shown).all()
    face = np.asarray(Image.open(tmp_path / "again" / "results" / "reconstructions" / "photo.png"))
    assert (face == np.asarray(Image.open(tmp_path / "face.png"))).all()
    # Only what was marked is another: the box at (20, 20, 26, 28) of 32 lies around here in the photo.
    changed = np.argwhere((mine != shown).any(2))
    assert (
        len(changed) and (mine[:10] == shown[:10]).all() and (mine[:, :10] == shown[:, :10]).all()
    )
    mask = np.asarray(Image.open(tmp_path / "again" / "mask.png").convert("L"))
    assert (mask[20:28, 20:26] == 0).all() and (mask[28:] == 255).all()
