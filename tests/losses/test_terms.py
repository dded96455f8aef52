"""Loss terms against values derived otherwise."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.losses import LOSSES, LossInputs, MeasurementLPIPS, WeightedLoss
from ilo_pl.operators import ForwardOperator, Grey, Identity, Mask, PartialCirculant

SHAPE = (3, 16, 24)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(operator: ForwardOperator, latents: Tensor | None = None, batch: int = 2) -> LossInputs:
    image = draw(batch, *operator.image_shape).clamp(-1, 1)
    given = operator(draw(batch, *operator.image_shape, seed=1).clamp(-1, 1))
    latents = draw(batch, 4, 8, seed=2) if latents is None else latents
    return LossInputs(image, operator(image), given, operator, latents)


def value(losses: dict[str, object], given: LossInputs) -> Tensor:
    return WeightedLoss(losses, LOSSES)(given)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("mse", lambda e: e**2),
        ("l1", abs),
        ("dead_zone", lambda e: max(0.0, abs(e) - 0.1)),
    ],
)
def test_fidelity_terms_are_means_over_observed_scalars(name: str, penalty: object) -> None:
    operator = Mask.random(SHAPE, 0.3, 0, ["a", "b"])
    given = inputs(operator)
    for i in range(2):
        seen = operator.mask[i].expand(SHAPE).bool()
        errors = (given.image[i] - given.measurements[i])[seen].double().tolist()
        expected = sum(penalty(e) for e in errors) / len(errors)  # type: ignore[operator]
        assert float(value({name: 1.0}, given)[i]) == pytest.approx(expected, rel=1e-5)


def test_the_dead_zone_has_the_width_it_is_given() -> None:
    given = inputs(Identity(SHAPE))
    wide = value({"dead_zone": {"weight": 2.0, "width": 0.5}}, given)
    errors = (given.predicted - given.measurements).double().abs().flatten(1).numpy()
    expected = 2 * np.maximum(errors - 0.5, 0).mean(1)
    np.testing.assert_allclose(wide.numpy(), expected, rtol=1e-5)


def test_geocross_against_angles_in_float64() -> None:
    latents = draw(2, 5, 512)
    latents = latents / latents.square().mean(-1, keepdim=True).sqrt()
    ours = value({"mse": 1e-30, "geocross": 1.0}, inputs(Identity(SHAPE), latents))
    for i in range(2):
        vectors = latents[i].double().numpy()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        angles = np.arccos(np.clip(unit @ unit.T, -1, 1))
        np.fill_diagonal(angles, 0)
        assert float(ours[i]) == pytest.approx((angles**2).mean() * 512 / 8, rel=1e-4)


@pytest.mark.parametrize("slots", [0, 1])
def test_geocross_of_one_latent_or_none_is_nothing(slots: int) -> None:
    """The published code slices the batch after the first stage and gets NaN."""
    latents = draw(2, slots, 8).requires_grad_()
    given = inputs(Identity(SHAPE), latents)
    assert torch.equal(
        value({"mse": 1.0, "geocross": 1.0, "latent_prior": 0.0}, given),
        value({"mse": 1.0}, given),
    )


def test_geocross_has_a_finite_gradient_where_all_latents_agree() -> None:
    latents = draw(2, 1, 8).expand(-1, 3, -1).clone().requires_grad_()
    value({"mse": 1.0, "geocross": 1.0}, inputs(Identity(SHAPE), latents)).sum().backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()


def test_the_latent_prior_is_the_normal_density_up_to_scale_and_a_constant() -> None:
    latents = draw(2, 4, 8)
    prior = value({"mse": 1e-30, "latent_prior": 1.0}, inputs(Identity(SHAPE), latents))
    density = torch.distributions.Normal(0, 1).log_prob(latents).flatten(1).mean(1)
    expected = -2 * density - math.log(2 * math.pi)
    torch.testing.assert_close(prior, expected, atol=1e-5, rtol=1e-4)


def test_the_spread_of_latents_is_numpys_variance_over_the_slots() -> None:
    latents = draw(2, 4, 8)
    spread = value({"mse": 1e-30, "latent_spread": 1.0}, inputs(Identity(SHAPE), latents))
    np.testing.assert_allclose(spread, np.var(latents.double().numpy(), 1).mean(1), rtol=1e-4)
    shared = draw(2, 1, 8).expand(-1, 4, -1)
    assert value({"mse": 1e-30, "latent_spread": 1.0}, inputs(Identity(SHAPE), shared)).max() < 1e-6


def test_lpips_of_measured_pictures_is_the_packages(make_lpips: torch.nn.Module) -> None:
    operator = Identity((3, 256, 256))
    given = inputs(operator)
    expected = make_lpips(given.image, given.measurements).flatten()
    torch.testing.assert_close(value({"lpips": 1.0}, given), expected)
    grey = Grey((3, 256, 256))
    given = inputs(grey)
    expected = make_lpips(
        given.predicted.repeat(1, 3, 1, 1), given.measurements.repeat(1, 3, 1, 1)
    ).flatten()
    torch.testing.assert_close(value({"lpips": 1.0}, given), expected)


def test_features_of_measurements_are_computed_once_and_again_when_they_change() -> None:
    given = inputs(Identity((3, 256, 256)))
    term = MeasurementLPIPS()
    with patch.object(term, "_features", wraps=term._features) as features:
        first, second = term(given), term(given)
        assert torch.equal(first, second)
        assert features.call_count == 3  # of the images twice, of the measurements once
        given.measurements.mul_(0.5)
        assert not torch.equal(term(given), first)
        term(replace(given, measurements=given.measurements.clone()))
    assert features.call_count == 7


@pytest.fixture(scope="module")
def make_lpips() -> torch.nn.Module:
    from ilo_pl.losses.perceptual import load_lpips

    return load_lpips("alex")


def test_superimposed_lpips_fills_what_is_missing_and_stops_its_gradient(
    make_lpips: torch.nn.Module,
) -> None:
    operator = Mask.box((3, 256, 256), (20, 30, 200, 220))
    image = draw(1, 3, 256, 256).clamp(-1, 1).requires_grad_()
    given = operator(draw(1, 3, 256, 256, seed=1).clamp(-1, 1))
    loss = value(
        {"lpips_superimposed": 1.0},
        LossInputs(image, operator(image), given, operator, draw(1, 4, 8)),
    )
    filled = torch.where(operator.mask.bool(), given, image.detach())
    twin = image.detach().clone().requires_grad_()
    expected = make_lpips(twin, filled).flatten()
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(image.grad, twin.grad)


def test_only_fidelity_terms_choose_the_best_iterate() -> None:
    given = inputs(Identity(SHAPE))
    fidelity, total = WeightedLoss({"mse": 2.0, "geocross": 0.5}, LOSSES)(given)
    torch.testing.assert_close(fidelity, 2 * value({"mse": 1.0}, given))
    torch.testing.assert_close(total - fidelity, value({"mse": 1e-30, "geocross": 0.5}, given))


@pytest.mark.parametrize(
    ("losses", "operator", "says"),
    [
        ({"lpips": 1.0}, PartialCirculant(SHAPE, 10, 0), "compares pictures"),
        ({"lpips_superimposed": 1.0}, Identity(SHAPE), "fills missing pixels"),
        ({"mse": 0.0, "geocross": 1.0}, Identity(SHAPE), "No loss looks at the measurements"),
        ({"dead_zone": {"widht": 1}}, Identity(SHAPE), "Did you mean 'width'"),
        ({"dead_zone": {"width": -1}}, Identity(SHAPE), "width = -1"),
        ({"lpips": {"net": "resnet"}}, Identity(SHAPE), "no LPIPS net 'resnet'"),
        ({"ssim": 1.0}, Identity(SHAPE), "no loss 'ssim'"),
    ],
)
def test_losses_that_cannot_be_used(
    losses: dict[str, object], operator: ForwardOperator, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        WeightedLoss(losses, LOSSES).check(operator)  # type: ignore[arg-type]
