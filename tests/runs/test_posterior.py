"""Samples in a run folder, as the command writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ilo_pl import TinyGenerator, load_point, render
from ilo_pl.inversion.posterior_file import load_posterior
from ilo_pl.io.images import load_image, to_picture
from ilo_pl.io.tables import read_table
from tests.conftest import command

KEYS = (
    "generator=tiny", "task=inpainting", "operator.box=[8,8,24,24]", "method=ilo_posterior", "method.steps=4",
    "method.posterior.samples=8", "method.posterior.burn_in=8", "method.posterior.thin=4",
    "method.posterior.sampler=mala", "method.posterior.directions=0",
)  # fmt: skip
# So short a walk does not mix, and says so.
unmixed = pytest.mark.filterwarnings("ignore:The chains of")


def picture(path: Path) -> np.ndarray:
    """Read a picture's bytes, ``(H, W, 3)``."""
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def faces(folder: Path) -> Path:
    """Write two faces of the tiny generator."""
    drawn = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(7))
    folder.mkdir()
    for name, image in zip(("ann", "bob"), TinyGenerator()(drawn, "z"), strict=True):
        to_picture(image).save(folder / f"{name}.png")
    return folder


@unmixed
def test_a_run_writes_samples_maps_and_how_far_to_trust_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, out = faces(tmp_path / "in"), tmp_path / "out"
    places = (f"input={given}", f"reference={given}", f"output={out}")
    assert command(monkeypatch, "invert", *places, *KEYS) == 0
    rows = {row["id"]: row for row in read_table(out / "posterior.csv")}
    assert set(rows) == {"ann", "bob"}
    hole = np.zeros((32, 32), bool)
    hole[8:24, 8:24] = True
    for name, row in rows.items():
        posterior = load_posterior(out / "posterior" / f"{name}.safetensors")
        assert posterior.samples.shape == (8, 3, 32, 32)
        assert float(row["sigma"]) == 4 and float(row["r_hat"]) > 1.1
        # Coverage once more, from what is on the disk: of 8 samples the interval of 90 % is their range.
        truth = picture(given / f"{name}.png").transpose(2, 0, 1)
        samples = posterior.samples.numpy()
        low, high = samples.min(0), samples.max(0)
        inside = (low <= truth) & (truth <= high)
        assert float(row["coverage_90"]) == pytest.approx(inside[low < high].mean(), abs=1e-5)
        # The result is the mean, but for what moves it to the measurements; its latents regenerate it.
        result = load_image(out / "reconstructions" / f"{name}.png").rgb
        assert float((result - posterior.mean).abs().max()) < 2 / 127.5
        point, meta = load_point(out / "latents" / f"{name}.safetensors")
        again = render(TinyGenerator(), point, meta["space"])[0]
        assert float((again - result).abs().max()) < 0.51 / 127.5
        # What is measured is certain, and the pictures show it.
        unsure = picture(out / "posterior" / f"{name}.std.png")[..., 0]
        assert unsure[~hole].max() <= 2 and unsure[hole].max() > 2
        assert picture(out / "posterior" / f"{name}.different.png").shape == (32, 6 * 32, 3)


@unmixed
def test_one_image_whose_samples_are_there_is_not_sampled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, out = faces(tmp_path / "in"), tmp_path / "out"
    places = (f"input={given}", f"output={out}")
    assert command(monkeypatch, "invert", *places, *KEYS) == 0
    kept = out / "posterior" / "ann.safetensors"
    before = kept.read_bytes()
    (out / "posterior" / "bob.safetensors").write_bytes(b"damaged")
    assert command(monkeypatch, "invert", *places, *KEYS, "resume=true") == 0
    assert kept.read_bytes() == before
    assert load_posterior(out / "posterior" / "bob.safetensors").samples.shape[0] == 8


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("noise=salt_and_pepper", "noise is Gaussian and of known strength"),
        ("method.posterior.samples=7", "samples = 7 is no multiple of chains = 4"),
        ("method.splits=[0,2]", "radii.hidden above 0"),
    ],
)
def test_what_cannot_be_sampled_ends_with_2_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    says: str,
) -> None:
    given, out = faces(tmp_path / "in"), tmp_path / "out"
    assert command(monkeypatch, "invert", f"input={given}", f"output={out}", *KEYS, key) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
