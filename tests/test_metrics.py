"""Scores of images."""

from __future__ import annotations

import math
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from torch.nn import functional as F

from ilo_pl.evaluation.metrics import Scorer, score_run
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import load_image


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


def reference_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of one channel by its formula in float64, with SciPy's correlation, windows inside only."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2

    def mean(x: np.ndarray) -> np.ndarray:
        return scipy.signal.correlate2d(x, window, mode="valid")

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    quality = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(quality.mean())


def smooth_pair(size: tuple[int, int] = (40, 37)) -> tuple[torch.Tensor, torch.Tensor]:
    a, noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    a = F.avg_pool2d(a[None], 5, 1, 2)[0]
    return a, (a + 0.2 * noise).clamp(-1, 1)


def test_ssim_counts_windows_within_the_image(scorer: Scorer) -> None:
    a, b = smooth_pair()
    pairs = zip(*(((x.double().numpy() + 1) / 2) for x in (a, b)), strict=True)
    expected = np.mean([reference_ssim(x, y) for x, y in pairs])
    assert scorer("a", a, b).ssim == pytest.approx(expected, abs=1e-5)
    # What lies in the border's windows alone is not lost on it.
    assert scorer("a", a, a).ssim == pytest.approx(1, abs=1e-6)


def test_a_batch_is_scored_as_each_of_its_images(scorer: Scorer) -> None:
    a, b = smooth_pair((48, 64))
    images, truths = torch.stack([a, b, a.flip(2)]), torch.stack([b, b / 2, a])
    together = scorer.batch(["x", "y", "z"], images, truths)
    for found, image, truth in zip(together, images, truths, strict=True):
        alone = scorer(found.id, image, truth)
        assert astuple(found)[1:] == pytest.approx(astuple(alone)[1:], rel=1e-5)


def test_scores_of_a_folder_of_images_of_several_sizes(scorer: Scorer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    references = {}
    for name, size in (("a", (40, 36)), ("b", (40, 36)), ("c", (52, 36))):
        image, truth = smooth_pair(size)
        folder.write_image("reconstructions", name, image)
        references[name] = folder.write_image("truths", name, truth)
    folder.write_image("reconstructions", "d", image)  # without a reference
    scores = score_run(folder, references)
    assert [one.id for one in scores] == ["a", "b", "c"]
    assert scores[0].ssim == scores[1].ssim != scores[2].ssim
    saved = [
        load_image(references["c"].parent.parent / kind / "c.png").rgb
        for kind in ("reconstructions", "truths")
    ]
    assert scores[2] == scorer("c", *saved)


def test_scores_of_what_is_too_small_are_no_numbers(scorer: Scorer) -> None:
    image = torch.zeros(3, 8, 8)
    assert math.isnan(scorer("a", image, image + 0.1).ssim)


def test_lpips_of_what_is_too_small_is_no_number(scorer: Scorer) -> None:
    image = torch.zeros(3, 16, 16)
    scores = scorer("a", image + 0.1, image)
    assert math.isnan(scores.lpips) and math.isfinite(scores.ssim)
