"""What the method files promise, on the tiny generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ilo_pl import (
    ILOInversion,
    InverseTask,
    Mask,
    Schedule,
    Stage,
    TinyGenerator,
    load_method,
    seeding,
)
from ilo_pl.config.choices import choices
from ilo_pl.config.compose import is_outside, load_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.lr_schedules import one_cycle_drop
from ilo_pl.losses.perceptual import load_lpips, resize_for_lpips
from ilo_pl.operators import Identity
from tests.conftest import IDS, images
from tests.oracle import Published, published_loop

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]


def test_pulses_rate_rises_falls_and_drops() -> None:
    """Against the formula as its authors state it, in numbers of steps."""
    steps = 100

    def published(x: int) -> float:
        if x < 0.9 * steps:
            return (9 * (1 - abs(x / (0.9 * steps) - 1 / 2) * 2) + 1) / 10
        return 1 / 10 + (x - 0.9 * steps) / (0.1 * steps) * (1 / 1000 - 1 / 10)

    for step in range(steps):
        assert one_cycle_drop(step / steps) == pytest.approx(published(step), abs=1e-12)


def test_pulse_keeps_latents_and_noises_on_their_spheres(make_task: MakeTask, fit: Fit) -> None:
    point = fit(make_task(load_method("pulse", steps=5), (0,))).results["ann"].point
    lengths = [point.latents.norm(dim=-1).flatten() / 16**0.5]
    lengths += [n.norm().view(1) / n[0].numel() ** 0.5 for n in point.noises.values()]
    torch.testing.assert_close(torch.cat(lengths), torch.ones(4 + 4), atol=1e-5, rtol=0)


def test_sparse_gen_moves_the_image_itself_within_its_ball(make_task: MakeTask, fit: Fit) -> None:
    radius = 0.01
    schedule = load_method("sparse_gen", steps=[5, 20], radii={"hidden": radius})
    result = fit(make_task(schedule, (0,), consistency=False)).results["ann"]
    assert result.point.split == 4
    before = result.stages[0].image.float() / 127.5 - 1
    moved = (result.point.hidden["image"] - before).abs().mean()
    assert float(moved) == pytest.approx(radius, rel=0.35)  # `before` is rounded to bytes
    assert result.stages[1].loss < result.stages[0].loss


def test_official_is_the_published_loop(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, truth: Tensor, mask: Mask
) -> None:
    """Spheres, last iterates, the lost skip, LPIPS and GEOCROSS; rates are lower, where rounding grows."""
    steps = [8, 6, 6, 6]
    schedule = load_method("ilo_official", steps=steps, lr=0.02, free_noises=[1, 2, 3, 4])
    ours = images(fit(make_task(schedule, batch_size=4, consistency=False)))
    start = seeding.normal((4, 16), 0, IDS, "latents")
    noises = [
        seeding.normal(shape, 0, IDS, "noises", i) for i, shape in enumerate(tiny.noise_shapes)
    ]
    lpips = load_lpips("alex")
    what = Published(
        keep_skip=False,
        spheres=True,
        last=True,
        geocross=0.01,
        perceptual=lambda a, b: lpips(*(resize_for_lpips(x) for x in (a, b))),
    )
    for i in range(4):
        one = mask.select([i])
        expected = published_loop(
            tiny,
            one,
            one(truth[i : i + 1]),
            start[i : i + 1],
            (0, 1, 2, 3),
            (1, 2, 3, 4),
            steps=steps,
            lr=0.02,
            noises={k: n[i : i + 1] for k, n in enumerate(noises)},
            observed=float(one.observed()),
            what=what,
        )
        # Adam's first steps are signs: on some processors rounding flips one, and a few pixels differ in the third place.
        apart = (ours[i : i + 1] - expected).abs()
        assert apart.mean() < 1e-4 and apart.max() < 5e-3


def test_a_lost_skip_makes_the_image_jump(make_task: MakeTask, fit: Fit) -> None:
    stages = (Stage(split=0, steps=5), Stage(split=2, steps=0))
    kept, lost = (
        fit(make_task(Schedule(stages=stages, carry_skip=keep), (0,))).results["ann"].stages
        for keep in (True, False)
    )
    assert torch.equal(kept[0].image, kept[1].image)
    assert not torch.equal(lost[0].image, lost[1].image)


def noisy(tiny: TinyGenerator, truth: Tensor, sna: Any, **options: Any) -> InverseTask:
    given = truth[:2] + 0.2 * seeding.normal(truth.shape[1:], 0, IDS[:2], "measurement noise")
    schedule = Schedule(stages=(Stage(split=0, steps=10, sna=sna),))
    task = {"ids": IDS[:2], "noise_sigma": 0.2, "batch_size": 2}
    return InverseTask(
        tiny, Identity(tiny.image_shape), given, schedule=schedule, **{**task, **options}
    )


def test_noise_addition_is_keyed_and_as_strong_as_the_measurements(
    tiny: TinyGenerator, truth: Tensor, fit: Fit
) -> None:
    plain, measured, again, same = (
        images(fit(noisy(tiny, truth, sna, **options)))
        for sna, options in (
            (0.0, {}),
            ("measured", {}),
            ("measured", {"batch_size": 1}),
            (0.2 * 127.5, {}),
        )
    )
    assert not torch.equal(plain, measured)
    assert torch.equal(measured, same)
    torch.testing.assert_close(measured, again, atol=1e-3, rtol=0)


def test_noise_addition_raises_the_loss_by_its_variance(tiny: TinyGenerator, truth: Tensor) -> None:
    from ilo_pl.inversion.objective import Objective

    batch = noisy(tiny, truth, 0.0).source.load([0, 1])
    objective = Objective(batch, {"mse": 1.0}, noise=0.3)
    quiet = objective(truth[:2], truth.new_zeros(2, 1, 16))[1]
    judged, loud = objective(truth[:2], truth.new_zeros(2, 1, 16), step=7)
    assert torch.equal(judged, quiet)
    torch.testing.assert_close(loud - quiet, torch.full((2,), 0.09), atol=0.01, rtol=0)


def test_noise_addition_needs_a_noise(tiny: TinyGenerator, truth: Tensor) -> None:
    with pytest.raises(ConfigurationError, match="noise is not known"):
        noisy(tiny, truth, "measured", noise_sigma=0.0)


@pytest.mark.parametrize("name", [m for m in choices("method") if not is_outside(m)])
def test_every_method_fits_the_default_generator_and_takes_its_steps(
    name: str, real: TinyGenerator
) -> None:
    schedule = load_method(name).resolve(real)
    assert schedule.gradient_steps == {
        "pulse": 100,
        "ilo_official": 150,
        "ilo_tuned": 250,
        "ilo_posterior": 200 + 700,
    }.get(name, 200)


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (["operator.fraction=0.01"], [0, 2, 3, 4]),
        (["operator.fraction=0.03"], [0, 3, 4, 5]),
        (["operator.fraction=null", "operator.box=[0,0,9,9]"], [0, 3, 4, 5]),
    ],
)
def test_sparse_inpainting_walks_shallower_layers(keys: list[str], splits: list[int]) -> None:
    made = load_config(["task=random_inpainting", "input=a", "output=b", *keys])
    assert [stage.split for stage in made.schedule.without_deviation().stages] == splits


def test_a_method_differs_by_task_only_when_the_task_is_named() -> None:
    plain, masked = (load_method("csgm_lpips", task).stages[0] for task in (None, "inpainting"))
    assert (plain.losses["lpips"], plain.losses["lpips_superimposed"]) == (1, 0)
    assert (masked.losses["lpips"], masked.losses["lpips_superimposed"]) == (0, 1)
    assert load_method("ilo", "denoising").stages[1].sna == "measured"
    assert load_method("ilo").stages[1].sna == 0
