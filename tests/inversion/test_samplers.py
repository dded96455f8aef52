"""Samplers against closed forms and independent estimates, alone and in the stage that uses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from ilo_pl import Stage
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.point import Point, carry
from ilo_pl.inversion.chains import effective_size, split_r_hat
from ilo_pl.inversion.posterior import Posterior
from ilo_pl.inversion.prior import Prior, laplace_of_normal, normal_of_laplace
from ilo_pl.inversion.samplers import SAMPLERS, ChainDraws
from ilo_pl.inversion.sampling import SamplingStage
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine, minimise
from ilo_pl.inversion.walking import Walking
from ilo_pl.operators import FunctionOperator

NAMES = tuple(SAMPLERS)
SIGMA = 0.3
# Chains this short do not mix, and say so.
unmixed = pytest.mark.filterwarnings("ignore:The chains of")


class LinearGenerator(SplitGenerator):
    """x = W2 (W1 v + n e1 + d): two latents, a noise input, a split state of two numbers, an image of three."""

    latent_spaces: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor([[1.0, 0.5], [-0.7, 0.8]]))
        self.second = nn.Parameter(torch.tensor([[0.6, 0.2], [0.1, -0.5], [0.4, 0.3]]))
        self.latent_dim, self.num_slots, self.noise_shapes = 2, 1, ((1, 1, 1),)
        self.splits = (
            Split("latent", {}, 0, 0),
            Split("middle", {"h": (2, 1, 1)}, 1, 1),
            Split("image", {"image": (3, 1, 1)}, 1, 1),
        )

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        if k:
            return {"image": torch.einsum("ij,bjhw->bihw", self.second, state["h"])}
        h = styles[:, 0] @ self.first.T
        noise = self.stored_noise(0) if noises[0] is None else noises[0]
        return {"h": h[:, :, None, None] + torch.cat([noise, torch.zeros_like(noise)], 1)}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        return latents

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        return normal

    def stored_noise(self, index: int) -> Tensor:
        return torch.zeros(1, 1, 1, 1)


def sampled(
    measured: Tensor,
    split: int = 0,
    chains: int = 64,
    each: int = 40,
    thin: int = 6,
    burn_in: int = 300,
    **sampling: Any,
) -> SamplingStage:
    """Sample x with y = x + noise for the linear generator, with no Trainer."""
    generator = LinearGenerator()
    generator.freeze()
    keys = {
        "samples": each * chains,
        "chains": chains,
        "burn_in": burn_in,
        "thin": thin,
        **sampling,
    }
    steps = burn_in + each * thin
    spec = Stage(split=split, steps=steps, solver="sampling", sampling=keys, radii={"hidden": 0.5})
    ids = tuple(f"image{i}" for i in range(len(measured)))
    operator = FunctionOperator(lambda x: x, (3, 1, 1))
    front = Point(0, {}, torch.zeros(len(ids), 1, 2), {})
    start = carry(generator, front, "v", split)
    batch = Batch(ids, measured, operator)
    stage = SamplingStage(Engine(generator, "v"), spec, start, front, batch, SIGMA, 0)
    minimise(stage)
    return stage


def flat(posterior: Posterior) -> Tensor:
    """Return the variables of samples as rows: latents, noise, deviation."""
    order = ("latents", "noises.0", "deviation.h")
    found = [posterior.variables[n].flatten(1) for n in order if n in posterior.variables]
    return torch.cat(found, 1).double()


def check(found: Tensor, mean: Tensor, cov: Tensor, effective: float, bias: float) -> None:
    """Compare moments within four standard errors, and the bias that an unadjusted sampler may have."""
    scale = cov.diagonal().sqrt()
    error = 4 / math.sqrt(effective)
    assert float(((found.mean(0) - mean) / scale).abs().max()) < error + bias
    relative = (torch.cov(found.T) - cov) / torch.outer(scale, scale)
    assert float(relative.abs().max()) < 1.5 * error + bias


@unmixed
@pytest.mark.parametrize(
    ("name", "bias"), [("hmc", 0.0), ("mala", 0.0), ("langevin", 0.06), ("proximal", 0.06)]
)
def test_a_linear_generator_has_the_posterior_of_the_closed_form(name: str, bias: float) -> None:
    """Mean and covariance of a Gaussian, for two images at a time."""
    measured = torch.tensor([[0.9, -0.4, 0.5], [-0.2, 0.6, 0.1]])[:, :, None, None]
    stage = sampled(measured, sampler=name)
    g = LinearGenerator()
    matrix = g.second.double() @ torch.cat([g.first, torch.tensor([[1.0], [0.0]])], 1).double()
    cov = torch.linalg.inv(torch.eye(3).double() + matrix.T @ matrix / SIGMA**2).detach()
    for i in range(2):
        posterior = stage.posterior(i)
        mean = (cov @ matrix.T @ measured[i].flatten().double() / SIGMA**2).detach()
        check(flat(posterior), mean, cov, min(posterior.mixing.effective, 5000), bias)


@unmixed
@pytest.mark.parametrize(
    ("name", "prior", "bias"),
    [("hmc", "laplace", 0), ("hmc", "ball", 0), ("mala", "laplace", 0), ("mala", "ball", 0), ("langevin", "laplace", 0.06),
     ("langevin", "ball", 0.06), ("proximal", "laplace", 0.1), ("proximal", "ball", 0.1)],
)  # fmt: skip
def test_deviations_have_the_posterior_that_weighted_draws_of_the_model_have(
    name: str, prior: str, bias: float
) -> None:
    """A million draws of v, n and d with NumPy, weighted by how well they explain y: no step of any chain in it."""
    measured = torch.tensor([0.9, -0.4, 0.5])
    posterior = sampled(
        measured[None, :, None, None], split=1, sampler=name, prior=prior
    ).posterior(0)
    rng = np.random.default_rng(0)
    count = 10**6
    v, n = rng.normal(size=(count, 2)), rng.normal(size=(count, 1))
    if prior == "laplace":
        d = rng.laplace(scale=0.5, size=(count, 2))
    else:  # uniform on |a| + |b| <= 1, a square on its corner
        a, b = rng.uniform(-1, 1, (2, count))
        d = np.stack([(a + b) / 2, (a - b) / 2], 1)
    g = LinearGenerator()
    first, second = g.first.detach().double().numpy(), g.second.detach().double().numpy()
    h = v @ first.T + d
    h[:, :1] += n
    misfit = ((h @ second.T - measured.double().numpy()) ** 2).sum(1)
    weight = np.exp(-misfit / 2 / SIGMA**2)
    weight /= weight.sum()
    drawn = np.concatenate([v, n, d], 1)
    mean = torch.tensor(weight @ drawn)
    cov = torch.tensor(np.cov(drawn.T, aweights=weight, ddof=0))
    check(flat(posterior), mean, cov, min(posterior.mixing.effective, 5000), bias)


@unmixed
def test_ranks_of_truths_are_uniform_and_intervals_hold_them() -> None:
    """Simulation-based calibration (Talts et al. 2018); scripts/calibrate_posterior.py is the same on a network."""
    count, chains = 100, 19
    rng = np.random.default_rng(1)
    g = LinearGenerator()
    first, second = g.first.detach().numpy(), g.second.detach().numpy()
    truth = np.concatenate(
        [rng.normal(size=(count, 3)), rng.laplace(scale=0.5, size=(count, 2))], 1
    )
    h = truth[:, :2] @ first.T + truth[:, 3:]
    h[:, 0] += truth[:, 2]
    measured = h @ second.T + SIGMA * rng.normal(size=(count, 3))
    stage = sampled(
        torch.tensor(measured, dtype=torch.float32)[:, :, None, None],
        split=1, chains=chains, each=1, thin=6, burn_in=150,
    )  # fmt: skip
    drawn = np.stack([flat(stage.posterior(i)).numpy() for i in range(count)])
    ranks = (drawn < truth[:, None]).sum(1)
    for place in range(truth.shape[1]):
        counts = np.bincount(ranks[:, place] // 2, minlength=10)
        assert stats.chisquare(counts).pvalue > 0.01
    # The range of 19 samples holds 90 %; the numbers of one image depend on each other.
    assert 0.86 < ((ranks > 0) & (ranks < chains)).mean() < 0.94


def walk(name: str, energy: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Run a sampler alone: chains ``(C, steps, D)`` behind a burn-in of 300."""
    at = nn.Parameter(start.clone())
    now: list[Tensor] = []
    draws = ChainDraws(0, ["toy"], len(start))
    sampler = SAMPLERS[name]([at], lambda: now[-1], draws, images=1, walking=Walking(300))
    kept = []
    for step in range(300 + steps):
        sampler.zero_grad()
        found = energy(at)
        now.append(found.detach().double())
        found.sum().backward()
        sampler.step()
        if step >= 300:
            kept.append(sampler.current()[0].clone())
        elif step == 299:
            frozen = sampler.step_size.clone(), sampler.metric.curvature.clone()
    # What adapts stops when the burn-in does.
    assert torch.equal(frozen[0], sampler.step_size)
    assert torch.equal(frozen[1], sampler.metric.curvature)
    return torch.stack(kept, 1)


@pytest.mark.parametrize("name", NAMES)
def test_both_modes_get_their_share(name: str) -> None:
    """0.3 N(-1.2, 0.25) + 0.7 N(1.2, 0.25) in one of two dimensions; all chains start in the smaller."""
    centres = torch.tensor([[-1.2, 0.0], [1.2, 0.0]])
    shares = torch.tensor([0.3, 0.7]).log()

    def energy(at: Tensor) -> Tensor:
        return -torch.logsumexp(shares - 2 * (at[:, None] - centres).square().sum(2), 1)

    chains = walk(name, energy, centres[:1].repeat(200, 1), 800)[:, 200:]
    share = (chains[..., 0] > 0).double().mean(1)
    error = float(share.std()) / math.sqrt(len(share))
    exact = 0.3 * stats.norm.sf(0, -1.2, 0.5) + 0.7 * stats.norm.sf(0, 1.2, 0.5)
    assert error < 0.03
    assert abs(float(share.mean()) - exact) < 4 * error + 0.01


def test_normal_numbers_become_laplace_numbers_and_a_ball() -> None:
    normal = torch.tensor([-6.0, -1.0, 0.0, 0.3, 5.0])
    expected = stats.laplace.ppf(stats.norm.cdf(normal.double()))
    assert np.allclose(laplace_of_normal(normal), expected, rtol=1e-4, atol=1e-6)
    assert torch.allclose(normal_of_laplace(laplace_of_normal(normal)), normal, atol=1e-5)
    # Uniform on the ball: its norm over the radius, to the power of the dimension, is uniform.
    prior = Prior(Engine(LinearGenerator(), "v"), 1, 0.5, True, True)
    numbers = {
        "h": torch.randn(4000, 2, 1, 1, generator=torch.Generator().manual_seed(0)),
        "slack": torch.randn(4000, 1, generator=torch.Generator().manual_seed(1)),
    }
    norm = prior.deviation(numbers)["h"].abs().flatten(1).sum(1)
    assert stats.kstest(norm.numpy() ** 2, "uniform").pvalue > 0.01
    # And back: what a deviation is made of makes it again.
    again = prior.deviation(prior.numbers(prior.deviation(numbers)))
    assert torch.allclose(again["h"], prior.deviation(numbers)["h"], atol=1e-4)


def test_effective_size_and_r_hat_of_processes_that_are_known() -> None:
    """AR(1) of correlation r is worth (1 - r) / (1 + r) of its length; chains apart have sqrt(1 + var / within)."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(4, 20000, 2))
    chains = np.zeros_like(steps)
    correlation = np.array([0.9, 0.0])
    for t in range(1, steps.shape[1]):
        chains[:, t] = correlation * chains[:, t - 1] + steps[:, t]
    found = effective_size(torch.tensor(chains))
    assert torch.allclose(found, 80000 * torch.tensor([0.1 / 1.9, 1.0]).double(), rtol=0.1)
    assert float((split_r_hat(torch.tensor(chains)) - 1).abs().max()) < 0.01
    shifted = torch.tensor(steps[..., 1:]) + torch.tensor([0.0, 0.0, 2.0, 2.0])[:, None, None]
    between = 8 / 7  # of 0, 0, 0, 0, 2, 2, 2, 2
    assert split_r_hat(shifted).item() == pytest.approx(math.sqrt(1 + between), rel=0.01)
    assert split_r_hat(shifted[:, :3]).isnan().all()
    assert effective_size(shifted[:, :1]).isnan().all()
    assert effective_size(torch.ones(2, 50, 1)).isnan().all()
