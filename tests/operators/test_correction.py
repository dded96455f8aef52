"""A* (A A* + rho I)^-1 of every operator against dense matrices, and what it means."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ilo_pl.operators import Identity, LinearOperator, Mask, Separable
from ilo_pl.operators.correction import conjugate_gradients
from tests.operators.test_linear import MAKE, SHAPE, draw


def dense(operator: LinearOperator) -> Tensor:
    basis = torch.eye(torch.Size(SHAPE).numel(), dtype=torch.float64).view(-1, *SHAPE)
    return operator(basis).flatten(1).T


@pytest.mark.parametrize("name", [n for n in MAKE if "kernel" not in n])  # so ill-conditioned
def test_correction_is_the_ridge_solution(name: str) -> None:
    operator = MAKE[name]().double()
    matrix = dense(operator)
    residual = operator(draw(2, *SHAPE))
    each = torch.tensor([0.05, 0.4], dtype=torch.float64).view(2, *[1] * (residual.ndim - 1))
    for rho in (0.1, each):
        found = operator.correction(residual, rho)
        for one, r, image in zip(
            torch.as_tensor(rho).expand(2, *each.shape[1:]).flatten(), residual, found, strict=True
        ):
            system = matrix @ matrix.T + one * torch.eye(len(matrix), dtype=torch.float64)
            wanted = matrix.T @ torch.linalg.solve(system, r.flatten())
            torch.testing.assert_close(image.flatten(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", [n for n in MAKE if "blur" not in n and "kernel" not in n and n != "convolution"]
)
def test_without_noise_it_is_the_pseudo_inverse(name: str) -> None:
    operator = MAKE[name]()
    matrix = dense(copy.deepcopy(operator).double())
    truth, start = draw(1, *SHAPE).float(), draw(1, *SHAPE, seed=1).float()
    y = operator(truth)
    moved = start + operator.correction(y - operator(start))
    torch.testing.assert_close(operator(moved), y, rtol=0, atol=1e-4)
    wanted = torch.linalg.pinv(matrix) @ (y - operator(start)).double().flatten()
    torch.testing.assert_close((moved - start).double().flatten(), wanted, rtol=0, atol=2e-3)


def test_a_blur_is_met_to_a_tenth_of_a_grey_level() -> None:
    shape = (3, 64, 48)
    smooth = torch.nn.functional.interpolate(draw(1, 3, 8, 6).float(), shape[1:], mode="bicubic")
    for operator in (Separable.gaussian_blur(shape, 2.0), MAKE["mask after blur"]()):
        truth = smooth if operator.image_shape == shape else draw(1, *SHAPE).float()
        y = operator(truth)
        error = operator(operator.correction(y)) - y
        assert error.square().mean().sqrt() * 127.5 < 0.1


@given(st.integers(0, 2**16), st.floats(0.0, 3.0))
def test_correction_never_moves_away_from_the_measurements(seed: int, rho: float) -> None:
    operator = Separable.bicubic((1, 8, 8), 2)
    residual = draw(1, 1, 4, 4, seed=seed).float()
    left = residual - operator(operator.correction(residual, rho))
    assert left.norm() <= residual.norm() * (1 + 1e-4)


def test_conjugate_gradients_of_an_image_do_not_depend_on_its_neighbours() -> None:
    scales = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 1e3, 1e-2, 7.0]])
    right = draw(2, 4).float()
    both = conjugate_gradients(lambda u: u * scales[: len(u)], right, 50, 1e-6)
    first = conjugate_gradients(lambda u: u * scales[:1], right[:1], 50, 1e-6)
    assert torch.equal(both[:1], first)
    torch.testing.assert_close(both, right / scales, rtol=1e-3, atol=1e-4)
    assert not conjugate_gradients(lambda u: u, torch.zeros(1, 3), 5, 1e-6).any()


def test_a_mask_and_an_image_are_exact() -> None:
    x, y = draw(1, *SHAPE).float(), draw(1, *SHAPE, seed=1).float()
    mask = Mask.random(SHAPE, 0.5, 0, ["a"])
    moved = x + mask.correction(mask(y) - mask(x))
    torch.testing.assert_close(moved, torch.where(mask.mask.bool(), y, x))
    torch.testing.assert_close(Identity(SHAPE).correction(y, 1.0), y / 2)
