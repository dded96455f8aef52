"""The stage that samples, as a task runs it: resuming, neighbours, what it returns and what it refuses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule, TinyGenerator, load_method
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators.point import Point, carry, free_noises, render
from ilo_pl.inversion.posterior import Mixing, Posterior, bounds, coverage
from ilo_pl.inversion.posterior_file import load_posterior, save_posterior
from ilo_pl.inversion.samplers import SAMPLERS
from ilo_pl.operators import FunctionOperator

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
NAMES = tuple(SAMPLERS)
# Chains this short do not mix, and say so.
unmixed = pytest.mark.filterwarnings("ignore:The chains of")


def schedule(split: int = 2, **sampling: Any) -> Schedule:
    before = {"latent_layout": "shared", "steps": 6, "free_noises": 2, "losses": {"mse": 1.0}}
    keys = {
        "samples": 6,
        "chains": 3,
        "burn_in": 8,
        "thin": 4,
        "leaps": 2,
        "directions": 16,
        **sampling,
    }
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
    options: dict[str, Any] = {"batch_size": 2, "noise_sigma": 0.5}  # so that chains move
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
        assert one.mixing.acceptance > 0


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
def test_compiled_segments_can_be_sampled_too(make_task: MakeTask, fit: Fit) -> None:
    """Finding directions differentiates the same place many times, which compiled segments allow once."""
    keys = {"samples": 4, "chains": 2, "burn_in": 4, "thin": 2, "leaps": 2, "directions": 4}
    before: dict[str, Any] = {"latent_layout": "shared", "steps": 2, "losses": {"mse": 1.0}}
    plan = load_method("ilo_posterior", splits=[0], posterior=keys, **before)
    eager, compiled = (
        fit(make_task(plan, (0,), noise_sigma=0.5), compile=mode).results["ann"].posterior
        for mode in (False, True)
    )
    assert eager is not None and compiled is not None
    assert int((eager.samples.int() - compiled.samples.int()).abs().max()) <= 1


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
        ({"posterior": {"thin": 4}}, "thin = 4 is less than leaps = 6"),
        ({"splits": [0, 2]}, "radii.hidden above 0"),
        ({"splits": [0, 1, 2], "radii": {"hidden": 1}}, "splits are to be 0 and the one"),
        ({"deviation": {"steps": 3}}, "deviation.steps=0"),
        ({"result": "best"}, "result=last"),
        ({"latent_space": "w", "losses": {"latent_prior": 0}}, "latents are to be normal"),
        ({"posterior": {"sampler": "nuts"}}, "sampler = 'nuts' cannot be used: give hmc, mala, langevin or"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_method("ilo_posterior", **columns)


def test_noise_of_no_known_strength_is_refused(make_task: MakeTask) -> None:
    with pytest.raises(ConfigurationError, match="noise is Gaussian and of known strength"):
        make_task(schedule(), (0,), noise_sigma=None)
