"""Noise models: their distributions, and that nothing depends on the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch

from ilo_pl import InverseTask, Schedule, Stage
from ilo_pl.config.choices import choices
from ilo_pl.config.compose import load_config
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.operators.noise import (
    GaussianNoise,
    NoiseModel,
    PoissonNoise,
    Quantisation,
    SaltAndPepper,
)

IDS = ["ann", "bob"]
GREY = torch.full((2, 3, 60, 50), 0.0)


def model(name: str, *overrides: str) -> NoiseModel:
    return load_config(["input=a", "output=b", "task=denoising", f"noise={name}", *overrides]).noise


@pytest.mark.parametrize("name", choices("noise"))
def test_noise_is_keyed_by_seed_and_id_alone(name: str) -> None:
    noise, clean = model(name), torch.rand(2, 3, 16, 16) * 2 - 1
    together = noise.apply(clean, 3, IDS)
    assert together.shape == clean.shape
    assert together.dtype == torch.float32
    assert torch.equal(noise.apply(clean[1:], 3, ["bob"]), together[1:])
    if name not in ("none", "quantisation"):
        assert not torch.equal(noise.apply(clean, 4, IDS), together)
        assert not torch.equal(noise.apply(clean, 3, ["ann", "cyd"])[1], together[1])


def test_gaussian_noise_is_normal() -> None:
    added = GaussianNoise(name="gaussian", sigma=10).apply(GREY, 0, IDS).flatten()
    assert scipy.stats.kstest(added.numpy(), "norm", args=(0, 10 / 127.5)).pvalue > 0.01


def test_poisson_noise_counts_photons() -> None:
    noise = PoissonNoise(name="poisson", photons=20)
    counts = ((noise.apply(GREY + 0.5, 0, IDS) + 1) / 2 * 20).flatten().numpy()
    assert np.abs(counts - counts.round()).max() < 1e-4
    seen = np.bincount(counts.round().astype(int), minlength=31)
    expected = scipy.stats.poisson(15).pmf(np.arange(len(seen)))
    use = expected * counts.size > 5
    assert (
        scipy.stats.chisquare(
            seen[use], expected[use] / expected[use].sum() * seen[use].sum()
        ).pvalue
        > 0.01
    )
    assert torch.equal(noise.apply(GREY - 1, 0, IDS), GREY - 1)
    at_mid_grey = noise.apply(GREY, 0, IDS).std() * 127.5
    assert float(at_mid_grey) == pytest.approx(noise.sigma, rel=0.03)
    with pytest.raises(InputError, match="a measurement is -3"):
        noise.apply(GREY - 3, 0, IDS)


def test_salt_and_pepper_hit_whole_pixels() -> None:
    noisy = SaltAndPepper(name="salt_and_pepper", share=0.2).apply(GREY, 0, IDS)
    salt, pepper = ((noisy == value).all(1).sum() for value in (1, -1))
    assert int(salt + pepper) == int((noisy != 0).any(1).sum())
    for specks in (salt, pepper):
        assert scipy.stats.binomtest(int(specks), 6000, 0.1).pvalue > 0.01
    vector = SaltAndPepper(name="salt_and_pepper", share=0.2).apply(GREY.flatten(1), 0, IDS)
    assert scipy.stats.binomtest(int((vector != 0).sum()), 18000, 0.2).pvalue > 0.01


def test_eight_bits_are_256_levels() -> None:
    values = torch.linspace(-1.3, 1.3, 1001).view(1, 1, 7, 143)
    ours = Quantisation(name="quantisation", levels=256).apply(values, 0, ["ann"])
    bytes_ = np.clip(np.round((values.double().numpy() + 1) * 127.5), 0, 255)
    np.testing.assert_allclose(ours.numpy(), bytes_ / 127.5 - 1, atol=1e-6)
    three = Quantisation(name="quantisation", levels=3, low=0, high=1).apply(values, 0, ["ann"])
    assert three.unique().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["noise=shot"], "no noise 'shot'"),
        (["noise=gaussian", "noise.sigma=-1"], "noise.sigma = -1"),
        (["noise=gaussian", "noise.sigma=true"], "noise.sigma = True"),
        (["noise=poisson", "noise.photons=0"], "noise.photons = 0"),
        (["noise=poisson", "noise.sigma=3"], "no configuration key 'noise.sigma'"),
        (["noise=salt_and_pepper", "noise.share=1.5"], "noise.share = 1.5"),
        (["noise=quantisation", "noise.levels=1"], "noise.levels = 1"),
        (["noise=quantisation", "noise.low=2"], r"noise: low = 2\.0 must be below high = 1\.0"),
    ],
)
def test_what_cannot_be_used_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_config(["input=a", "output=b", *overrides])


def test_a_task_refuses_a_noise_that_is_no_deviation(make_task: Callable[..., InverseTask]) -> None:
    schedule = Schedule(stages=(Stage(split=0, steps=1),))
    assert make_task(schedule, noise_sigma=0.1).noise_sigma == 0.1
    for sigma in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match=f"noise_sigma = {sigma}"):
            make_task(schedule, noise_sigma=sigma)


def test_the_search_is_told_the_gaussian_part() -> None:
    assert model("gaussian", "noise.sigma=12.5").sigma == 12.5
    assert [model(n).sigma for n in ("none", "salt_and_pepper", "quantisation")] == [0, 0, 0]
    assert model("poisson", "noise.photons=2").sigma == pytest.approx(255 / math.sqrt(4))
