"""Pictures in loggers, read back from what they wrote."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from ilo_pl.io.images import to_bytes, to_picture
from tests.conftest import command

RUN = (
    "generator=tiny", "method.splits=[0,2]", "method.steps=3", "method.free_noises=0",
    "method.deviation.steps=0", "report=false", "compile=false",
)  # fmt: skip


@pytest.fixture
def faces(tmp_path: Path, truth: Tensor) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name, image in zip(("ann", "bob", "cyd"), truth, strict=False):
        to_picture(to_bytes(image)).save(folder / f"{name}.png")
    return folder


def test_tensorboard_has_the_stages_of_the_first_images(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    output = tmp_path / "out"
    keys = (f"input={faces}", f"output={output}", "logger=tensorboard", "logger.pictures=2")
    assert command(monkeypatch, "invert", *RUN, *keys) == 0
    seen: dict[tuple[str, int], np.ndarray] = {}
    for path in sorted(output.glob("log/version_0/events*")):
        for event in loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    png = value.tensor.string_val[2]
                    seen[value.tag, event.step] = np.asarray(Image.open(io.BytesIO(png)))
    # Each image has a run of 6 steps of its own behind the one before.
    assert set(seen) == {
        (f"pictures/{name}", 6 * unit + step)
        for unit, name in enumerate(("ann", "bob"))
        for step in (3, 6)
    } | {("results/ann", 6), ("results/bob", 12)}
    for (tag, step), pixels in seen.items():
        kind, name = tag.split("/")
        stage = (step - 1) % 6 // 3
        file = f"stages/{name}.stage{stage}-round0-split{2 * stage}.png"
        path = output / (file if kind == "pictures" else f"reconstructions/{name}.png")
        assert np.array_equal(pixels, np.asarray(Image.open(path)))


def test_a_logger_that_cannot_be_begun_is_refused(
    tmp_path: Path,
    faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    keys = ("invert", *RUN, f"input={faces}", f"output={output}", "logger=wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert command(monkeypatch, *keys) == 2
    assert "pip install 'ilo_pl[wandb]'" in capsys.readouterr().err
    assert not output.exists()
