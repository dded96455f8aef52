"""Scores of images."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ilo_pl.evaluation.metrics import Scorer


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


def test_psnr_is_that_of_eight_bit_images(scorer: Scorer) -> None:
    """An error of d grey levels everywhere is 20 log10(255 / d) dB."""
    image = torch.zeros(3, 40, 40)
    assert scorer("a", image + 2 * 3 / 255, image).psnr == pytest.approx(20 * math.log10(255 / 3))


def test_lpips_looks_at_256_pixels(scorer: Scorer) -> None:
    a, b = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2))
    large = [F.interpolate(x[None], scale_factor=8.0)[0] for x in (a, b)]
    small = [F.interpolate(x[None], scale_factor=4.0)[0] for x in (a, b)]
    assert scorer("a", *large).lpips == pytest.approx(scorer("a", *small).lpips, rel=1e-4)


def test_lpips_of_what_is_too_small_is_no_number(scorer: Scorer) -> None:
    image = torch.zeros(3, 16, 16)
    scores = scorer("a", image + 0.1, image)
    assert math.isnan(scores.lpips) and math.isfinite(scores.ssim)
