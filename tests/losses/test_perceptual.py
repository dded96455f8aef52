"""LPIPS with the shipped backbone against values published with the original weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.losses.perceptual import VGG_VARIABLE, load_lpips


def pair() -> tuple[Tensor, Tensor]:
    i = torch.arange(64.0)
    y, x = torch.meshgrid(i, i, indexing="ij")
    g = torch.stack(
        [torch.sin(y / 5) * torch.cos(x / 7), torch.sin((y + x) / 9), torch.cos(y * x / 300)]
    )[None]
    return g, 0.8 * g.flip(-1)


def test_alexnet_gives_the_published_values() -> None:
    lpips = load_lpips("alex")
    g, h = pair()
    assert float(lpips(g, h)) == pytest.approx(0.30783, abs=2e-5)
    assert float(lpips(g, 0.9 * g)) == pytest.approx(0.00031036, rel=1e-3)


def test_vgg_without_a_backbone_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(VGG_VARIABLE, raising=False)

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(WeightsError, match=r"convert_lpips\.py") as error:
        load_lpips("vgg")
    assert "alex" in error.value.choices[0]


def test_a_file_that_is_no_backbone_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "vgg.safetensors"
    bad.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a VGG16 backbone"):
        load_lpips("vgg", bad)
