"""BM3D beside the engine: the same command, the same folder."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

import bm3d as package
import numpy as np
import pytest
import torch
from PIL import Image

from ilo_pl import TinyGenerator, load_method
from ilo_pl.baselines.bm3d import bm3d
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.images import to_bytes
from tests.conftest import command

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def photo(tmp_path: Path, tiny: TinyGenerator) -> Path:
    """A face of the tiny generator is noise itself: a smooth picture shows what a denoiser does."""
    ramp = torch.linspace(-0.8, 0.8, 32)
    image = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), -ramp.expand(32, 32)])
    path = tmp_path / "ramp, red.png"
    Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture
def invert(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    def call(*keys: str) -> tuple[int, str]:
        given = [f"input='{photo}'", f"reference='{photo}'", f"output={tmp_path}/out"]
        fixed = ["invert", *given, "generator=tiny", "method=bm3d"]
        status = command(monkeypatch, *fixed, *keys)
        return status, capsys.readouterr().err.replace("\n", " ")

    return call


def test_a_run_denoises_as_the_package_does(invert: Run, photo: Path, tmp_path: Path) -> None:
    status, err = invert("task=denoising", "noise.sigma=30", "save_measurements=true")
    assert status == 0, err
    out = tmp_path / "out"
    noisy = np.load(out / "measurements" / f"{photo.stem}.npz")["y"].astype(np.float64)
    expected = package.bm3d_rgb((noisy.transpose(1, 2, 0) + 1) / 2, 30 / 255)
    ours = np.array(Image.open(out / "reconstructions" / photo.name)).astype(float)
    assert np.abs(ours - expected.clip(0, 1) * 255).max() <= 0.51
    true = np.array(Image.open(photo)).astype(float)
    given = np.array(Image.open(out / "measurements" / photo.name)).astype(float)
    before, after = (np.square(x - true).mean() for x in (given, ours))
    assert after < before / 4
    (row,) = csv.DictReader((out / "metrics.csv").read_text().splitlines())
    assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / after), abs=1e-3)
    (seconds,) = csv.DictReader((out / "seconds.csv").read_text().splitlines())
    assert seconds["id"] == photo.stem
    assert float(seconds["seconds"]) > 0
    names = sorted(p.name for p in out.iterdir())
    assert names == [
        "config.yaml", "grid.png", "measurements", "metrics.csv", "reconstructions", "report.html",
        "seconds.csv", "state",
    ]  # fmt: skip


def test_pictures_beyond_white_come_back_within_range() -> None:
    noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    restored = bm3d(0.95 + 0.2 * noise, 0.2 * 127.5)
    assert restored.dtype == torch.float32
    assert float(restored.max()) <= 1
    assert float((restored - 0.95).abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["task=random_inpainting"], "operator is 'mask'.*task=denoising"),
        (["task=denoising", "noise=poisson"], "the noise 'poisson'"),
        (["task=denoising", "noise.sigma=0"], "sigma = 0"),
        (["task=denoising", "method.steps=5"], "The method 'bm3d' has no steps"),
        (["task=denoising", "method.outside=nlm"], "outside = 'nlm'"),
    ],
)
def test_what_bm3d_is_not_for(invert: Run, tmp_path: Path, keys: list[str], says: str) -> None:
    status, err = invert(*keys)
    assert status == 2
    assert re.search(says, err), err
    assert not (tmp_path / "out").exists()


def test_a_missing_package_names_the_extra(
    invert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    status, err = invert("task=denoising")
    assert status == 2
    assert "ilo_pl[bm3d]" in err
    assert not (tmp_path / "out").exists()


def test_it_is_no_schedule() -> None:
    with pytest.raises(ConfigurationError, match="'bm3d' is outside the engine"):
        load_method("bm3d")
