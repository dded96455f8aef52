"""Held-out measurements: which they are, that nothing pulls at them, and that they judge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ilo_pl.inversion.objective import Objective, held_out
from ilo_pl.inversion.source import Batch
from ilo_pl.operators import ForwardOperator, Identity, Mask, PartialCirculant

SHAPE = (3, 32, 48)
IDS = ("ann", "bob")


def draw(seed: int) -> Tensor:
    return torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def batch_of(operator: ForwardOperator) -> Batch:
    return Batch(IDS, operator(draw(0)), operator)


@pytest.mark.parametrize("losses", [{"mse": 1.0}, {"l1": 1.0, "dead_zone": 0.5}])
def test_nothing_pulls_at_what_is_held_out(losses: dict[str, float]) -> None:
    batch = batch_of(Identity(SHAPE))
    held = held_out(batch, 0.3, seed=1)
    image = draw(2).requires_grad_()
    objective = Objective(batch, losses, validation=0.3, seed=1)
    _, total = objective(image, torch.zeros(2, 1, 4))
    total.sum().backward()
    assert image.grad is not None
    assert not image.grad[held].any()
    assert image.grad[~held].any()


def test_the_judge_is_the_squared_error_of_what_is_held_out_whatever_the_losses() -> None:
    operator = Mask.random(SHAPE, 0.5, 0, IDS)
    batch = batch_of(operator)
    held = held_out(batch, 0.3, seed=1)
    image = draw(2)
    judge, _ = Objective(batch, {"l1": 3.0}, validation=0.3, seed=1)(image, torch.zeros(2, 1, 4))
    for i in range(2):
        error = (image[i] - batch.measurements[i])[held[i]].double()
        assert float(judge[i]) == pytest.approx(float(error.square().mean()), rel=1e-5)


@given(share=st.floats(0.05, 0.5), seed=st.integers(0, 10**6), observed=st.floats(0.2, 1.0))
def test_whole_observed_pixels_are_held_out_at_about_their_share(
    share: float, seed: int, observed: float
) -> None:
    operator = Mask.random(SHAPE, observed, seed, IDS)
    held = held_out(batch_of(operator), share, seed)
    assert (held == held[:, :1]).all()
    assert not (held & (operator.mask == 0)).any()
    count = operator.mask.sum((1, 2, 3))
    found = held[:, 0].sum((1, 2))
    spread = 5 * (count * share * (1 - share)).sqrt()
    assert ((found - count * share).abs() <= spread).all()


def test_the_choice_depends_on_the_image_and_not_on_its_batch() -> None:
    operator = PartialCirculant(SHAPE, 500, 0)
    batch = batch_of(operator)
    held = held_out(batch, 0.2, seed=0)
    alone = held_out(Batch(("bob",), batch.measurements[1:], operator), 0.2, seed=0)
    assert torch.equal(held[1:], alone)
    assert not torch.equal(held[0], held[1])


def test_of_too_few_measurements_none_is_held_out() -> None:
    operator = PartialCirculant(SHAPE, 2, 0)
    batch, latents = batch_of(operator), torch.zeros(2, 1, 4)
    image = torch.rand(2, *SHAPE)
    judged, descended = Objective(batch, {"mse": 1.0}, validation=0.01, seed=0)(image, latents)
    assert torch.equal(judged, descended)
    torch.testing.assert_close(judged, (operator(image) - batch.measurements).square().mean(1))
