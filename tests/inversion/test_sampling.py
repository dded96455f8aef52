"""Samplers against closed forms and independent estimates; the stage that uses them; what it returns."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy import stats
from torch import Tensor, nn

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule, Stage, TinyGenerator, load_method
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.point import Point, carry, free_noises, render
from ilo_pl.inversion.chains import effective_size, split_r_hat
from ilo_pl.inversion.posterior import Mixing, Posterior, bounds, coverage
from ilo_pl.inversion.posterior_file import load_posterior, save_posterior
from ilo_pl.inversion.prior import Prior, laplace_of_normal, normal_of_laplace
from ilo_pl.inversion.samplers import SAMPLERS, ChainDraws
from ilo_pl.inversion.sampling import SamplingStage
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine, minimise
from ilo_pl.operators import FunctionOperator

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
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
@pytest.mark.parametrize(("name", "bias"), [("mala", 0.0), ("langevin", 0.06), ("proximal", 0.06)])
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
    [("mala", "laplace", 0), ("mala", "ball", 0), ("langevin", "laplace", 0.06),
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
        split=1, chains=chains, each=1, thin=1, burn_in=150,
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
    sampler = SAMPLERS[name]([at], lambda: now[-1], draws, images=1, burn_in=300)
    kept = []
    for step in range(300 + steps):
        sampler.zero_grad()
        found = energy(at)
        now.append(found.detach().double())
        found.sum().backward()
        sampler.step()
        if step >= 300:
            kept.append(sampler.current(at).clone())
        elif step == 299:
            frozen = sampler.step_size.clone(), sampler.state[at]["curvature"].clone()
    # What adapts stops when the burn-in does.
    assert torch.equal(frozen[0], sampler.step_size)
    assert torch.equal(frozen[1], sampler.state[at]["curvature"])
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


def schedule(split: int = 2, **sampling: Any) -> Schedule:
    before = {"latent_layout": "shared", "steps": 6, "free_noises": 2, "losses": {"mse": 1.0}}
    keys = {"samples": 6, "chains": 3, "burn_in": 8, "thin": 4, **sampling}
    return load_method(
        "ilo_posterior", splits=[0, split], radii={"hidden": 0.05}, posterior=keys, **before
    )


class Saves(pl.Callback):
    """Saves a checkpoint behind a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@unmixed
@pytest.mark.parametrize("step", [15, 24, 28])
@pytest.mark.parametrize("sampler", NAMES)
def test_an_interrupted_sampling_goes_on_to_the_bit(
    make_task: MakeTask, fit: Fit, tmp_path: Path, step: int, sampler: str
) -> None:
    """In the burn-in, between two samples, and behind the last step; 6 + 6 steps of the search come first."""
    plan = schedule(sampler=sampler)
    assert plan.total_steps == 12 + 16
    options: dict[str, Any] = {"batch_size": 2, "noise_sigma": 0.1}
    task = make_task(plan, (0, 1), **options)
    whole = fit(task, callbacks=[Saves(step, tmp_path / "mid.ckpt")])
    again = fit(make_task(plan, (0, 1), **options), ckpt_path=str(tmp_path / "mid.ckpt"))
    assert set(again.results) == {"ann", "bob"}
    for name, result in again.results.items():
        one, other = result.posterior, whole.results[name].posterior
        assert one is not None and other is not None
        assert torch.equal(result.image, whole.results[name].image)
        assert torch.equal(one.samples, other.samples)
        assert all(torch.equal(v, other.variables[n]) for n, v in one.variables.items())
        assert one.mixing == other.mixing


@unmixed
def test_samples_do_not_depend_on_the_neighbours(make_task: MakeTask, fit: Fit) -> None:
    together = fit(make_task(schedule(), (0, 1), batch_size=2, noise_sigma=0.1))
    alone = fit(make_task(schedule(), (1,), noise_sigma=0.1))
    one, other = (each.results["bob"].posterior for each in (together, alone))
    assert one is not None and other is not None
    assert int((one.samples.int() - other.samples.int()).abs().max()) <= 1
    # Chains are no copies of each other.
    assert len({sample.numpy().tobytes() for sample in one.samples}) > 3


@unmixed
def test_the_result_is_the_mean_and_its_latents_regenerate_it(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator
) -> None:
    result = fit(make_task(schedule(), (0,), noise_sigma=0.1)).results["ann"]
    drawn = result.posterior
    assert drawn is not None
    assert float((result.image - drawn.mean).abs().max()) < 1e-3
    assert torch.equal(render(tiny, result.point, result.space), result.image[None])
    assert torch.equal(drawn.std, drawn.samples.double().std(0).float() / 127.5)
    assert drawn.mixing.sigma == pytest.approx(12.75)
    # The variables are those of the pictures, up to rounding to bytes.
    generated = {name: value[:1] for name, value in drawn.variables.items()}
    noises = {int(n[7:]): v for n, v in generated.items() if n.startswith("noises.")}
    whole = free_noises(tiny, Point(0, {}, generated["latents"], noises), 2)
    point = carry(tiny, whole, "v", 2)
    hidden = {n: v + generated[f"deviation.{n}"] for n, v in point.hidden.items()}
    image = render(tiny, Point(2, hidden, point.latents, point.noises), "v")
    assert float((image * 127.5 + 127.5 - drawn.samples[0]).abs().max()) < 0.51


@unmixed
def test_without_noise_samples_keep_what_was_measured(
    make_task: MakeTask, fit: Fit, mask: Mask, truth: Tensor
) -> None:
    """The floor lets chains move; what is returned is moved to the measurements, as every result is."""
    result = fit(make_task(schedule(floor=8.0), (0,))).results["ann"]
    assert result.posterior is not None and result.posterior.mixing.sigma == 8.0
    seen = mask.mask[0].bool().expand(3, -1, -1)
    off = (result.posterior.samples.float() / 127.5 - 1 - truth[0])[:, seen].abs().max()
    assert float(off) < 1 / 127.5
    assert float(result.posterior.std[~seen].min()) >= 0
    assert float(result.posterior.std[~seen].max()) > 0


def test_intervals_are_order_statistics() -> None:
    """A further number lies between the i-th and the j-th of S with probability (j - i) / (S + 1)."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (19, 3, 40, 40), generator=random, dtype=torch.uint8)
    low, high = bounds(drawn, 0.9)
    assert torch.equal(low, drawn.amin(0).float()) and torch.equal(high, drawn.amax(0).float())
    low, high = bounds(drawn, 0.5)
    ordered = drawn.sort(0).values.float()
    assert torch.equal(low, ordered[4]) and torch.equal(high, ordered[14])
    another = torch.randint(0, 256, (3, 40, 40), generator=random, dtype=torch.uint8)
    assert coverage(drawn, another, 0.5) == pytest.approx(0.5, abs=0.03)
    assert coverage(drawn, another, 0.9) == pytest.approx(0.9, abs=0.03)
    same = Posterior(drawn[:1].repeat(4, 1, 1, 1), {}, Mixing(1, 1, 1, 1, 1, 1, 1, 1))
    assert math.isnan(same.coverage(torch.zeros(3, 40, 40), 0.9))


def test_the_most_different_samples_come_first() -> None:
    levels = torch.tensor([10, 12, 200, 100, 11], dtype=torch.uint8)
    samples = levels[:, None, None, None].expand(-1, 3, 8, 8)
    posterior = Posterior(samples, {}, Mixing(1, 1, 1, 1, 1, 1, 1, 1))
    assert set(posterior.different(2)) == {0, 2}
    assert posterior.different(3)[2] == 3
    assert sorted(posterior.different(9)) == [0, 1, 2, 3, 4]


def test_a_file_of_samples_comes_back_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (4, 3, 8, 8), generator=random, dtype=torch.uint8)
    mixing = Mixing(1.02, 40.5, 0.57, 0.2, 4.0, 2, 100, 200)
    posterior = Posterior(samples, {"latents": torch.randn(4, 1, 16, generator=random)}, mixing)
    path = tmp_path / "a.safetensors"
    save_posterior(path, posterior)
    again = load_posterior(path)
    assert torch.equal(again.samples, samples) and again.mixing == mixing
    assert torch.equal(again.variables["latents"], posterior.variables["latents"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as samples"):
        load_posterior(path)


def test_chains_that_do_not_mix_say_so(make_task: MakeTask, fit: Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="The chains of 'ann' have not mixed")
        with pytest.raises(UserWarning, match="split R-hat"):
            fit(make_task(schedule(), (0,), noise_sigma=0.1))


@unmixed
def test_a_chain_that_meets_what_is_not_finite_stays_where_it_was(
    tiny: TinyGenerator, truth: Tensor, fit: Fit
) -> None:
    """The operator fails where pictures are bright in a corner, as an overflow would."""
    corner = float(truth[0, 0, 0, 0])
    fails: list[bool] = []

    def measure(images: Tensor) -> Tensor:
        bad = images[:, :1, :1, :1] > (corner + 0.02 if fails else math.inf)
        return images.masked_fill(bad, math.nan)

    operator = FunctionOperator(measure, (3, 32, 32))
    plan = schedule(samples=30, thin=2)
    task = InverseTask(tiny, operator, truth[:1], schedule=plan, ids=["ann"], noise_sigma=0.2)
    fails.append(True)
    drawn = fit(task).results["ann"].posterior
    assert drawn is not None
    assert all(bool(v.isfinite().all()) for v in drawn.variables.values())
    assert float((drawn.samples[:, 0, 0, 0] / 127.5 - 1).max()) < float(corner) + 0.03


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"posterior": {"samples": 5}}, "samples = 5 is no multiple of chains = 4"),
        ({"splits": [0, 2]}, "radii.hidden above 0"),
        ({"splits": [0, 1, 2], "radii": {"hidden": 1}}, "splits are to be 0 and the one"),
        ({"deviation": {"steps": 3}}, "deviation.steps=0"),
        ({"result": "best"}, "result=last"),
        ({"latent_space": "w", "losses": {"latent_prior": 0}}, "latents are to be normal"),
        ({"posterior": {"sampler": "nuts"}}, "sampler = 'nuts' cannot be used: give mala, langevin or"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_method("ilo_posterior", **columns)


def test_noise_of_no_known_strength_is_refused(make_task: MakeTask) -> None:
    with pytest.raises(ConfigurationError, match="noise is Gaussian and of known strength"):
        make_task(schedule(), (0,), noise_sigma=None)
