"""Grain continued into holes, beside SciPy's filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ilo_pl import Mask
from ilo_pl.inversion.grain import grained

SHAPE = (3, 256, 256)
BOX = (80, 150, 176, 210)


def photograph(strength: float) -> Tensor:
    """A ramp with an edge far from the hole, and grain whose channels hang together."""
    ramp = torch.linspace(-0.5, 0.5, 256).expand(SHAPE).clone()
    ramp[:, 140:144] += 0.8
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return (ramp + strength * (noise + noise.mean(0))).clamp(-1, 1)[None]


def fine(image: Tensor, region: tuple[slice, slice]) -> np.ndarray:
    """Covariance of the channels of what SciPy's Gaussian takes away."""
    pixels = image[0].double().numpy()
    band = pixels - gaussian_filter(pixels, (0, 1, 1))
    return np.cov(band[(slice(None), *region)].reshape(3, -1))


def draw(seed: int = 0) -> Tensor:
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_a_hole_takes_on_the_grain_around_it_and_what_is_measured_stays() -> None:
    truth, mask = photograph(0.04), Mask.box(SHAPE, BOX).mask
    filled = torch.where(mask > 0, truth, photograph(0.0))
    out = grained(mask, filled, draw())
    assert torch.equal(out * mask, filled * mask)
    hole = (slice(156, 204), slice(86, 170))
    ratio = fine(out, hole) / fine(truth, hole)
    assert (ratio > 0.7).all(), ratio
    assert (ratio < 1.3).all(), ratio
    assert np.trace(fine(filled, hole)) < 0.01 * np.trace(fine(truth, hole))
    assert not torch.equal(out, grained(mask, filled, draw(1)))


def test_a_hole_that_has_grain_and_smooth_surroundings_get_none() -> None:
    mask = Mask.box(SHAPE, BOX).mask
    for image in (photograph(0.0), photograph(0.04)):
        change = (grained(mask, image, draw()) - image).square().mean().sqrt()
        assert change < 0.008
    coarse = torch.where(mask > 0, photograph(0.0), photograph(0.04))
    assert torch.allclose(grained(mask, coarse, draw()), coarse, atol=1e-3)


@pytest.mark.parametrize("mask", [torch.ones(256, 256), torch.eye(256), torch.rand(256, 256) < 0.1])
def test_without_a_hole_or_without_surroundings_nothing_changes(mask: Tensor) -> None:
    image = photograph(0.04)
    assert torch.equal(grained(Mask(mask).mask, image, draw()), image)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_pictures_smaller_than_the_filters_are_no_trouble(size: int) -> None:
    image = photograph(0.04)[..., :size, :size]
    mask = Mask.box((3, size, size), (size // 2, 0, size, size)).mask
    out = grained(mask, image, draw()[..., :size, :size])
    assert torch.isfinite(out).all()
    assert torch.equal(out * mask, image * mask)
