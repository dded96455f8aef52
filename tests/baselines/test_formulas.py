"""Baselines against closed forms and other code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from ilo_pl.baselines.enlargement import Kernel, enlarge
from ilo_pl.baselines.filling import biharmonic, gaussian_filling, interpolation
from ilo_pl.baselines.proximal import fista, noise_gain, squared_norm, strengths
from ilo_pl.baselines.total_variation import tv
from ilo_pl.baselines.wavelet import shrinkage, wavelet
from ilo_pl.errors import InputError
from ilo_pl.operators import Identity, LinearOperator, Mask, PartialCirculant, Separable

SHAPE = (3, 32, 32)
FILLINGS = [interpolation, gaussian_filling, biharmonic]


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def ramp() -> Tensor:
    y, x = torch.meshgrid(
        torch.linspace(-0.4, 0.4, 32), torch.linspace(-0.5, 0.5, 32), indexing="ij"
    )
    return torch.stack([x + y, x - y, -x])


@pytest.mark.parametrize(("kernel", "taps"), [("bicubic", 4), ("lanczos", 6)])
def test_enlargement_is_pillows_and_keeps_an_edge_within_range(kernel: Kernel, taps: int) -> None:
    small = drawn(3, 8, 8) * 0.5
    small[:, :, 4:] = 0.5
    found = enlarge(small, (32, 24), kernel)
    assert found.shape == (3, 32, 24)
    assert float(enlarge(small * 2, (32, 24), kernel).abs().max()) == 1
    grey = (small + 1) * 127.5
    picture = Image.fromarray(grey.round().byte().permute(1, 2, 0).numpy())
    other = np.asarray(picture.resize((24, 32), Image.Resampling[kernel.upper()])).astype(float)
    assert np.abs((found.permute(1, 2, 0).numpy() + 1) * 127.5 - other).max() < 2
    # One white pixel reaches as far as the kernel has taps.
    spot = -torch.ones(1, 9, 9)
    spot[0, 4, 4] = 1
    lit = (enlarge(spot * 0.5, (36, 36), kernel)[0, 18] + 0.5).abs() > 1e-6
    assert int(lit.sum()) in range(4 * taps - 3, 4 * taps + 1)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_interpolation_has_a_ramp_exactly(fraction: float) -> None:
    mask = Mask.random(SHAPE, fraction, 0, ["a"]).mask[0, 0]
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = 1  # all of the picture lies between observed pixels
    found = interpolation(ramp() * mask, mask)
    torch.testing.assert_close(found, ramp(), atol=1e-5, rtol=0)


def test_beyond_the_observed_pixels_the_nearest_is_taken() -> None:
    mask = torch.zeros(32, 32)
    mask[10:20, 10:20] = 1
    found = interpolation(ramp() * mask, mask)
    assert torch.equal(found[:, 31, 31], ramp()[:, 19, 19])
    line = torch.zeros(32, 32)
    line[5] = 1
    assert torch.equal(interpolation(ramp() * line, line)[:, 30], ramp()[:, 5])


@pytest.mark.parametrize("fill", FILLINGS)
def test_fillings_keep_what_is_observed_and_see_nothing_else(fill) -> None:  # type: ignore[no-untyped-def]
    mask = Mask.box(SHAPE, (8, 8, 20, 24)).mask[0, 0]
    picture = ramp()
    found = fill(picture * mask, mask)
    assert torch.equal(found[:, mask > 0], picture[:, mask > 0])
    assert torch.equal(found, fill(picture * mask + 0.7 * (1 - mask), mask))
    assert float((found - picture).abs().max()) < {biharmonic: 1e-4}.get(fill, 0.25)
    assert torch.equal(fill(picture, torch.ones(32, 32)), picture)


def test_gaussian_filling_divides_two_blurs() -> None:
    mask, picture = torch.ones(1, 9), torch.zeros(1, 1, 9)
    mask[0, 4] = 0
    picture[0, 0, 3] = 1
    sigma = 0.5 / math.sqrt(8 / 9)
    weights = torch.exp(-(torch.arange(-2.0, 3) ** 2) / 2 / sigma**2)
    weights[2] = 0
    expected = float(weights[1] / weights.sum())
    assert float(gaussian_filling(picture, mask)[0, 0, 4]) == pytest.approx(expected, abs=1e-3)


def test_what_is_too_much_or_nothing_for_a_filling() -> None:
    hole = Mask.box((1, 400, 400), (1, 1, 399, 399)).mask[0, 0]
    with pytest.raises(InputError, match=r"158404 missing pixels hang together.*\n.*interpolation"):
        biharmonic(torch.zeros(1, 400, 400), hole)
    with pytest.raises(InputError, match="no pixel"):
        interpolation(ramp(), torch.zeros(32, 32))
    with pytest.raises(InputError, match="of its size"):
        gaussian_filling(ramp(), torch.ones(32, 31))
    with pytest.raises(InputError, match="pictures can be enlarged"):
        enlarge(torch.zeros(7), (32, 32), "bicubic")


def test_the_lasso_of_an_image_itself_is_soft_thresholding() -> None:
    noisy = drawn(*SHAPE)
    found = wavelet(Identity(SHAPE), noisy, 25.5, weight=1.5, iterations=8, spin=False)
    coarse, *details = pywt.wavedec2(noisy.double().numpy(), "db4", "periodization", 2, axes=(1, 2))
    soft = [tuple(pywt.threshold(d, 0.3, "soft") for d in each) for each in details]
    expected = pywt.waverec2([coarse, *soft], "db4", "periodization", axes=(1, 2))
    # The step is a fiftieth shorter than it may be, so that what is left shrinks by that each time.
    np.testing.assert_allclose(found.numpy(), expected.clip(-1, 1), atol=2e-3)


def test_a_lasso_ends_where_nothing_is_to_be_gained() -> None:
    operator = PartialCirculant(SHAPE, 1500, 0)
    y = operator(drawn(1, *SHAPE))[0]
    size, shrink = 1.02 * squared_norm(operator), shrinkage(SHAPE, spin=False)
    found = fista(operator, y, shrink, [0.1] * 500, size)
    step = found - operator.adjoint(operator(found[None]) - y)[0] / size
    torch.testing.assert_close(shrink(step, 0.1), found, atol=1e-3, rtol=0)


def test_total_variation_of_an_image_itself_is_scikit_images() -> None:
    noisy = ramp() + 0.2 * drawn(*SHAPE)
    found = tv(Identity(SHAPE), noisy, 12.75, weight=2)
    expected = denoise_tv_chambolle(noisy.numpy(), 0.2, channel_axis=0)
    torch.testing.assert_close(found, torch.from_numpy(expected).clamp(-1, 1))
    assert torch.equal(tv(Identity(SHAPE), noisy, 0), noisy.clamp(-1, 1))
    # A mask that hides nothing is the same problem, solved another way.
    other = tv(Mask(torch.ones(32, 32)), noisy, 12.75, weight=2, iterations=60)
    exact = denoise_tv_chambolle(noisy.numpy(), 0.2, eps=1e-9, max_num_iter=2000, channel_axis=0)
    assert float((other - torch.from_numpy(exact)).abs().mean()) < 0.02


def test_norm_and_noise_gain() -> None:
    blur = Separable.gaussian_blur((1, 8, 8), 1.0)
    matrix = torch.stack([blur(e.view(1, 1, 8, 8)).flatten() for e in torch.eye(64)]).T
    exact = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    assert 0.98 * exact < squared_norm(blur) <= exact * 1.0001
    assert noise_gain(blur) == pytest.approx(float(matrix.norm()) / 8, rel=0.2)
    assert noise_gain(Mask.random(SHAPE, 0.25, 0, ["a"])) == pytest.approx(0.5)
    falling = strengths(1, 0.01, 8)
    assert len(falling) == 8
    assert falling == sorted(falling, reverse=True)
    assert falling[-3:] == pytest.approx([0.01] * 3)
    assert strengths(1, 0.1, 1) == [1]


@pytest.mark.parametrize("sigma", [0.0, 8.0])
@pytest.mark.parametrize(
    "operator",
    [
        Mask.random(SHAPE, 0.4, 0, ["a"]),
        Separable.bicubic(SHAPE, 4),
        PartialCirculant(SHAPE, 900, 0),
    ],
    ids=["mask", "reduction", "circulant"],
)
def test_priors_come_nearer_to_a_smooth_picture(operator: LinearOperator, sigma: float) -> None:
    noise = sigma / 127.5 * drawn(1, *operator.measurement_shape)
    y = (operator(ramp()[None]) + operator.hide(noise))[0]
    for found in (
        wavelet(operator, y, sigma, iterations=60),
        tv(operator, y, sigma, iterations=60),
    ):
        assert found.shape == SHAPE
        assert found.dtype == torch.float32
        assert float(found.abs().max()) <= 1
        assert float((found - ramp()).abs().mean()) < 0.5 * float(ramp().abs().mean())
