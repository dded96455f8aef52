"""Further metrics against scikit-image, NumPy and closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ilo_pl.evaluation.further import FURTHER, further_scores
from ilo_pl.io.images import to_bytes, to_picture
from tests.conftest import command


def test_metrics_are_what_their_names_say() -> None:
    draw = torch.Generator().manual_seed(0)
    true = torch.nn.functional.interpolate(
        torch.rand(1, 3, 24, 24, generator=draw) * 2 - 1, size=(192, 192), mode="bicubic"
    ).clamp(-1, 1)[0]
    ours = (true + 0.1 * torch.randn(true.shape, generator=draw)).clamp(-1, 1)
    found = further_scores(list(FURTHER), ours, true)
    x, y = ((picture.double().numpy() + 1) / 2 for picture in (ours, true))
    mse = ((x - y) ** 2).mean()
    angle = np.arccos((x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0)))
    bands = ((x - y) ** 2).mean((1, 2)) / y.mean((1, 2)) ** 2
    expected = {
        "mae": np.abs(x - y).mean(),
        "mse": mse,
        "rmse": mse**0.5,
        "nrmse": mse**0.5 / (y.max() - y.min()),
        "pearson": np.corrcoef(x.ravel(), y.ravel())[0, 1],
        "sam": angle.mean(),
        "ergas": 100 * bands.mean() ** 0.5,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-3), name
    same = further_scores(["ms_ssim", "scc", "uqi", "vif"], true, true)
    for name, value in same.items():
        assert value == pytest.approx(1, abs=1e-3) and 0 < found[name] < 0.99 * value
    small = further_scores(["ms_ssim", "mae"], ours[:, :32, :32], true[:, :32, :32])
    assert math.isnan(small["ms_ssim"]) and small["mae"] > 0


def test_a_run_has_the_metrics_that_were_asked_for(
    tmp_path: Path,
    truth: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    face = tmp_path / "face.png"
    to_picture(to_bytes(truth[0])).save(face)
    keys = (
        "invert", f"input={face}", f"output={tmp_path / 'out'}", "generator=tiny", "method=bicubic",
        "task=super_resolution", "operator.factor=4", "report=false",
    )  # fmt: skip
    assert command(monkeypatch, *keys, f"reference={face}", "metrics=[psnr,uqii]") == 2
    assert "Did you mean 'uqi'" in capsys.readouterr().err
    assert command(monkeypatch, *keys, "metrics=[uqi]") == 2
    assert "reference=" in capsys.readouterr().err
    assert command(monkeypatch, *keys, f"reference={face}", "metrics=[psnr,uqi,mse]") == 0
    header, row = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert list(values)[:6] == ["id", "psnr", "ssim", "lpips", "uqi", "mse"]
    assert -10 * math.log10(float(values["mse"])) == pytest.approx(float(values["psnr"]), abs=1e-3)
