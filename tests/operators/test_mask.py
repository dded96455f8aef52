from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.operators import Mask


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_equals_its_dense_matrix_and_has_an_exact_adjoint(h: int, w: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(h, w, generator=rng) < 0.5).double()
    pixels[0, 0] = 1
    operator = Mask(pixels).double()
    n = 3 * h * w
    basis = torch.eye(n, dtype=torch.float64).view(n, 3, h, w)
    matrix = operator(basis).flatten(1).T
    assert torch.equal(matrix, torch.diag(pixels.flatten().repeat(3)))
    x, y = torch.randn(2, 1, 3, h, w, generator=rng, dtype=torch.float64)
    left, right = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(left - right)) <= 1e-12 * float(x.norm() * y.norm())


def test_random_masks_are_exact_in_number_and_keyed_by_id_alone() -> None:
    shape = (3, 20, 31)
    together = Mask.random(shape, 0.1, 5, ["a", "b", "c"])
    assert together.mask.sum((1, 2, 3)).tolist() == [62, 62, 62]
    alone = Mask.random(shape, 0.1, 5, ["b"])
    assert torch.equal(together.mask[1:2], alone.mask)
    assert torch.equal(together.select([1]).mask, alone.mask)
    assert not torch.equal(Mask.random(shape, 0.1, 6, ["b"]).mask, alone.mask)
    assert together.observed().tolist() == [186, 186, 186]


def test_box_misses_its_pixels_and_no_other() -> None:
    mask = Mask.box((3, 8, 10), (2, 1, 5, 7)).mask[0, 0]
    assert float(mask[1:7, 2:5].sum()) == 0
    assert float(mask.sum()) == 8 * 10 - 3 * 6


def test_a_black_pixel_is_a_pixel() -> None:
    black = torch.full((1, 3, 4, 4), -1.0)
    assert torch.equal(Mask(torch.ones(4, 4))(black), black)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Mask(torch.zeros(4, 4)), InputError, "observes no pixel"),
        (lambda: Mask(torch.full((4, 4), 0.5)), InputError, "only 0 .* and 1"),
        (lambda: Mask(torch.ones(2, 3, 4, 4)), InputError, "shape"),
        (lambda: Mask.box((3, 8, 8), (5, 0, 2, 8)), ConfigurationError, "left < right"),
        (lambda: Mask.random((3, 8, 8), 0.0, 0, ["a"]), ConfigurationError, "fraction = 0.0"),
        (lambda: Mask.random((3, 8, 8), 1.5, 0, ["a"]), ConfigurationError, "fraction = 1.5"),
        (lambda: Mask(torch.ones(4, 4))(torch.zeros(1, 3, 4, 5)), InputError, r"3, 4, 4"),
    ],
)
def test_what_cannot_be_used_is_refused(make, error, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=says):
        make()
