"""Baselines by the command: the folder that a run leaves, and what is refused before there is one."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.images import to_bytes
from tests.conftest import command

RANDOM = ["task=random_inpainting", "operator.fraction=0.5"]


@pytest.fixture
def faces(tmp_path: Path, tiny: TinyGenerator) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    images = tiny(torch.randn(2, 16, generator=torch.Generator().manual_seed(3)))
    for name, image in zip(("a", "c"), images, strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("interpolation", RANDOM),
        ("gaussian_filling", RANDOM),
        ("biharmonic", ["task=inpainting", "operator.box=[4,4,12,20]"]),
        ("bicubic", ["task=super_resolution", "operator.factor=4"]),
        ("lanczos", ["task=super_resolution", "operator.factor=4"]),
        ("wavelet", ["task=compressed_sensing", "operator.fraction=0.3", "method.iterations=9"]),
        ("tv", ["task=denoising", "noise.sigma=20"]),
    ],
)
def test_a_run_leaves_what_an_engines_run_does(
    method: str,
    keys: list[str],
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    whole = (faces / "a.png").read_bytes()
    (faces / "b.png").write_bytes(whole[: len(whole) // 2])  # its header is good
    given = [f"input={faces}", f"reference={faces}", f"output={out}", "generator=tiny"]
    status = command(monkeypatch, "invert", *given, f"method={method}", *keys)
    assert status == 3, capsys.readouterr().err
    names = {p.name for p in (out / "reconstructions").iterdir()}
    assert names == {"a.png", "c.png"}
    assert np.asarray(Image.open(out / "reconstructions/a.png")).std() > 0
    rows = {f: list(csv.DictReader((out / f).read_text().splitlines())) for f in (
        "seconds.csv", "metrics.csv", "failures.csv"
    )}  # fmt: skip
    assert [r["id"] for r in rows["seconds.csv"]] == ["a", "c"]
    assert [r["id"] for r in rows["failures.csv"]] == ["b"]
    assert float(rows["metrics.csv"][0]["psnr"]) > 5
    suffix = "npz" if method == "wavelet" else "png"
    assert (out / "measurements" / f"a.{suffix}").exists()
    assert f"name: {method}" in (out / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["method=bicubic", *RANDOM], "enlarges.*operator is 'mask'.*task=super_resolution"),
        (["method=lanczos", "task=denoising"], "operator is 'identity'"),
        (["method=interpolation", "task=super_resolution"], "task=random_inpainting"),
        (["method=biharmonic", "task=deblurring"], "missing pixels of a mask"),
        (["method=tv", "task=denoising", "noise=salt_and_pepper"], "salt and pepper"),
        (["method=wavelet", *RANDOM, "method.iterations=0"], "method.iterations = 0"),
        (["method=wavelet", *RANDOM, "method.weight=0"], "method.weight = 0"),
        (["method=wavelet", *RANDOM, "method.iteration=9"], "method.iterations"),
        (["method=tv", *RANDOM, "method.outside=wave"], "method.outside = 'wave'.*bicubic"),
        (["method=tv", *RANDOM, "method.steps=3"], "The method 'tv' has no steps"),
    ],
)
def test_what_does_not_go_together_is_refused(keys: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(["input=a", "output=b", *keys])
    assert re.search(says, str(caught.value).replace("\n", " ")), caught.value


def test_a_missing_package_names_the_extra(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    given = [f"input={faces}", f"output={tmp_path}/out", "generator=tiny", "method=wavelet"]
    assert command(monkeypatch, "invert", *given, *RANDOM) == 2
    assert "ilo_pl[baselines]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
