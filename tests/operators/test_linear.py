"""Every linear operator: exact adjoint, linearity, and agreement with something independent."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import (
    Composition,
    Convolution,
    DenseGaussian,
    Grey,
    Identity,
    LinearOperator,
    Mask,
    PartialCirculant,
    Separable,
)
from ilo_pl.operators.convolution import motion_kernel

SHAPE = (3, 8, 12)
MAKE: dict[str, Callable[[], LinearOperator]] = {
    "mask": lambda: Mask.random(SHAPE, 0.4, 0, ["a"]),
    "bicubic 2": lambda: Separable.bicubic(SHAPE, 2),
    "bicubic 4": lambda: Separable.bicubic(SHAPE, 4),
    "blur": lambda: Separable.gaussian_blur(SHAPE, 1.3),
    "wide blur": lambda: Separable.gaussian_blur(SHAPE, 9.0),
    "motion blur": lambda: Convolution.motion_blur(SHAPE, 5.5, 20.0),
    "long motion blur": lambda: Convolution.motion_blur(SHAPE, 12.0, 90.0),
    "convolution": lambda: Convolution(draw(4, 3, seed=9), SHAPE),
    "kernel larger than the image": lambda: Convolution(draw(20, 33, seed=9), SHAPE),
    "circulant": lambda: PartialCirculant(SHAPE, 100, seed=1),
    "gaussian": lambda: DenseGaussian(SHAPE, 100, seed=1),
    "identity": lambda: Identity(SHAPE),
    "grey": lambda: Grey(SHAPE),
    "mask after blur": lambda: Composition(
        [Separable.gaussian_blur(SHAPE, 1.0), Mask.random(SHAPE, 0.4, 0, ["a"])]
    ),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", MAKE)
def test_adjoint_linearity_and_buffers(name: str) -> None:
    operator = MAKE[name]().double()
    x, other = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    y = draw(2, *operator.measurement_shape, seed=2)
    measured = operator(x)
    assert measured.shape == y.shape
    assert operator.adjoint(y).shape == x.shape
    left, right = (measured * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(left - right)) <= 1e-10 * float(measured.norm() * y.norm())
    torch.testing.assert_close(operator(2 * x - 3 * other), 2 * measured - 3 * operator(other))
    again = MAKE[name]().double()
    again.load_state_dict(operator.state_dict())
    assert torch.equal(again(x), measured)


def test_bicubic_equals_pillow_away_from_the_border() -> None:
    """Pillow's bicubic has the same kernel (a = -0.5), support and centres; it renormalises at borders."""
    image = draw(1, 1, 64, 96)[0, 0].float()
    for factor in (2, 4, 8):
        ours = Separable.bicubic((1, 64, 96), factor)(image[None, None])[0, 0]
        resized = Image.fromarray(image.numpy()).resize(
            (96 // factor, 64 // factor), Image.Resampling.BICUBIC
        )
        inner = slice(2, -2)
        torch.testing.assert_close(
            ours[inner, inner], torch.from_numpy(np.array(resized))[inner, inner], atol=1e-5, rtol=0
        )


def test_bicubic_keeps_constants_up_to_the_largest_factor() -> None:
    flat = torch.full((1, 3, 64, 64), 0.37)
    for factor in (1, 2, 16, 64):
        ours = Separable.bicubic((3, 64, 64), factor)(flat)
        torch.testing.assert_close(ours, torch.full((1, 3, 64 // factor, 64 // factor), 0.37))


def test_blur_equals_scipy() -> None:
    image = draw(1, 3, 40, 30)
    ours = Separable.gaussian_blur((3, 40, 30), 1.5).double()(image)
    expected = scipy.ndimage.gaussian_filter(
        image[0].numpy(), (0, 1.5, 1.5), mode="mirror", truncate=4.0
    )
    torch.testing.assert_close(ours[0], torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 1), (4, 6), (41, 27)])
def test_convolution_equals_scipy(size: tuple[int, int]) -> None:
    image, kernel = draw(2, 3, 20, 30), draw(*size, seed=1)
    ours = Convolution(kernel, (3, 20, 30)).double()(image)
    expected = scipy.ndimage.convolve(
        image.numpy(),
        kernel.float().double().numpy()[None, None],
        mode="mirror",
    )
    torch.testing.assert_close(ours, torch.from_numpy(expected))


@pytest.mark.parametrize(("length", "angle"), [(0.4, 0), (3, 0), (7.3, 30), (6, 45), (5, -100)])
def test_a_motion_kernel_is_the_integral_along_its_line(length: float, angle: float) -> None:
    kernel = motion_kernel(length, angle)
    rows, columns = (n // 2 for n in kernel.shape)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    for row in range(-rows - 1, rows + 2):
        for column in range(-columns - 1, columns + 2):

            def hat(t: float, row: int = row, column: int = column) -> float:
                near = np.maximum(0, 1 - np.abs([-sin * t - row, cos * t - column]))
                return float(near.prod())

            crossings = [t for t in np.arange(-9, 10) / (abs(cos) + 1e-9) if abs(t) < length / 2]
            crossings += [t for t in np.arange(-9, 10) / (abs(sin) + 1e-9) if abs(t) < length / 2]
            expected = scipy.integrate.quad(
                hat, -length / 2, length / 2, points=crossings or None, limit=200
            )[0]
            inside = abs(row) <= rows and abs(column) <= columns
            ours = float(kernel[row + rows, column + columns]) if inside else 0.0
            assert ours == pytest.approx(expected / length, abs=1e-6)


@pytest.mark.parametrize("name", ["circulant", "motion blur"])
def test_a_kept_spectrum_follows_its_buffer(name: str) -> None:
    """Casting, loading and copying change the result as if nothing had been kept."""
    operator, x = MAKE[name](), draw(1, *SHAPE)
    with torch.inference_mode():
        single = operator(x.float()).clone()
    x32 = x.float().requires_grad_()
    operator(x32).sum().backward()
    assert operator.double()(x).dtype == torch.float64
    torch.testing.assert_close(operator(x).float(), single)
    assert torch.equal(operator.float()(x.float()), single)
    twin = copy.deepcopy(operator)
    twin.load_state_dict({k: 2 * v for k, v in operator.state_dict().items()})
    factor = 4 if name == "circulant" else 2  # the signs are doubled too
    torch.testing.assert_close(twin(x.float()), factor * single)
    assert torch.equal(operator(x.float()), single)


def test_circulant_equals_scipys_matrix_with_random_signs() -> None:
    operator = PartialCirculant(SHAPE, 100, seed=3).double()
    matrix = scipy.linalg.circulant(operator.column.numpy())[:100] * operator.signs.numpy()
    x = draw(1, *SHAPE)
    torch.testing.assert_close(operator(x)[0], torch.from_numpy(matrix @ x.flatten().numpy()))


@pytest.mark.parametrize("kind", [PartialCirculant, DenseGaussian])
def test_random_projections_keep_lengths_on_average(kind: type[PartialCirculant]) -> None:
    operator = kind((3, 32, 32), 600, 0)
    x = draw(200, 3, 32, 32).float()
    ratio = operator(x).square().sum(1) / x.square().flatten(1).sum(1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(kind((3, 32, 32), 600, 0)(x), operator(x))
    assert not torch.equal(kind((3, 32, 32), 600, 1)(x), operator(x))


def test_a_composition_hands_each_image_its_own_mask() -> None:
    masks = Mask.random(SHAPE, 0.4, 0, ["a", "b"])
    chain = Composition([Separable.gaussian_blur(SHAPE, 1.0), masks])
    x = draw(1, *SHAPE).float()
    assert chain.count == 2
    one = chain.select([1])
    assert torch.equal(one(x), masks.select([1])(Separable.gaussian_blur(SHAPE, 1.0)(x)))
    assert one.observed().tolist() == [float(masks.mask[1].sum()) * 3]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Separable.bicubic(SHAPE, 3), "factor = 3 does not divide"),
        (lambda: Separable.gaussian_blur(SHAPE, 0), "sigma = 0"),
        (lambda: Convolution.motion_blur(SHAPE, 0), "length = 0"),
        (lambda: Convolution.motion_blur(SHAPE, 13), "length = 13; .* at most 12"),
        (lambda: Convolution.motion_blur(SHAPE, 3, float("nan")), "angle = nan"),
        (lambda: Convolution(torch.ones(3), SHAPE), "a matrix"),
        (lambda: PartialCirculant(SHAPE, 0, 0), "0 measurements of 288"),
        (lambda: DenseGaussian(SHAPE, 289, 0), "289 measurements of 288"),
        (lambda: DenseGaussian((3, 1024, 1024), 300_000, 0), "Use the circulant operator"),
        (lambda: Composition([Grey(SHAPE), Identity(SHAPE)]), "cannot follow each other"),
        (lambda: Composition([]), "at least one"),
    ],
)
def test_what_cannot_be_used_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()
