"""Deviations from the generator's picture: proximal stages, and measured consistency."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl import (
    ILOInversion,
    InverseTask,
    Mask,
    Schedule,
    Stage,
    TinyGenerator,
)
from ilo_pl.denoisers.learned import LearnedDenoiser
from ilo_pl.denoisers.tv import divergence, gradient, total_variation
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.point import render
from ilo_pl.inversion.consistency import blended, consistent, error_level, measured_error
from ilo_pl.inversion.proximal import strength, to_measurements
from ilo_pl.inversion.stage_spec import Proximal
from ilo_pl.operators import Identity, LinearOperator, PartialCirculant, Separable
from tests.conftest import IDS

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
SHAPE = (3, 32, 32)


def schedule(steps: int = 4, **proximal: Any) -> Schedule:
    return Schedule(
        stages=(
            Stage(split=0, steps=6, free_noises=1),
            Stage(split=2, steps=5, free_noises=2),
            Stage(
                split=2,
                steps=steps,
                free_noises=2,
                solver="proximal",
                proximal=Proximal(**proximal),
            ),
        )
    )


def natural(count: int = 1, size: int = 32) -> Tensor:
    """Smooth pictures with edges, outside of any generator's range."""
    drawn = 0.5 * torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    smooth = F.interpolate(drawn, (size, size), mode="bicubic").clamp(-0.8, 0.8)
    smooth[..., size // 2 :, size // 4 :] += 0.2
    return smooth


OPERATORS: dict[str, LinearOperator] = {
    "mask": Mask.random(SHAPE, 0.4, 0, ["a"]),
    "box": Mask.box(SHAPE, (8, 8, 20, 24)),
    "super-resolution": Separable.bicubic(SHAPE, 4),
    "circulant": PartialCirculant(SHAPE, 900, seed=0),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("deviation", [0, 4])
def test_what_is_returned_measured_again_is_what_was_measured(
    name: str, deviation: int, tiny: TinyGenerator, fit: Fit
) -> None:
    operator, truth = OPERATORS[name], natural()
    y = operator(truth)
    task = InverseTask(tiny, operator, y, schedule=schedule(deviation), ids=["a"])
    result = fit(task).results["a"]
    assert float(measured_error(operator, y, result.image[None])) < 0.5
    assert result.measured_error[1] < 0.5 < result.measured_error[0]
    assert result.image.abs().max() <= 1
    torch.testing.assert_close(render(tiny, result.point, result.space)[0], result.image)

    bare = InverseTask(tiny, operator, y, schedule=schedule(0), ids=["a"], consistency=False)
    own = fit(bare).results["a"]
    assert own.point.deviation is None
    assert own.measured_error[0] == own.measured_error[1] > 0.5


def test_deviations_restore_what_the_generator_cannot_make(tiny: TinyGenerator, fit: Fit) -> None:
    operator, truth = OPERATORS["mask"], natural()

    def error(steps: int, consistency: bool) -> float:
        task = InverseTask(
            tiny,
            operator,
            operator(truth),
            schedule=schedule(steps),
            ids=["a"],
            consistency=consistency,
        )
        return float((fit(task).results["a"].image - truth[0]).square().mean())

    own, moved, deviated = error(0, False), error(0, True), error(12, True)
    assert deviated < 0.8 * moved < 0.4 * own


def test_an_interrupted_deviation_goes_on_to_the_bit(
    make_task: MakeTask, fit: Fit, tmp_path: Path
) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
            if module.step == 6 + 5 + 2:  # in the middle of the proximal steps
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    whole = fit(make_task(schedule(), (0, 1), batch_size=2), callbacks=[Stop()])
    again = fit(make_task(schedule(), (0, 1), batch_size=2), ckpt_path=tmp_path / "mid.ckpt")
    for image_id in IDS[:2]:
        assert torch.equal(whole.results[image_id].image, again.results[image_id].image)
        alone = fit(make_task(schedule(), (IDS.index(image_id),)))
        torch.testing.assert_close(
            alone.results[image_id].image, whole.results[image_id].image, rtol=0, atol=2e-3
        )


def test_with_noise_nothing_is_forced(tiny: TinyGenerator, fit: Fit) -> None:
    sigma = 0.2
    truth = natural()
    y = truth + sigma * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    task = InverseTask(tiny, Identity(SHAPE), y, schedule=schedule(6), ids=["a"], noise_sigma=sigma)
    found = fit(task).results["a"].image
    assert not task.consistent
    assert (found - truth[0]).square().mean() < 0.4 * (y - truth).square().mean()
    # A measured error well below the noise would be noise that was fitted.
    assert 0.6 * sigma < (found - y[0]).square().mean().sqrt() < 1.2 * sigma


def test_consistency_with_noise_is_the_linear_estimate() -> None:
    truth = torch.zeros(1, *SHAPE)
    draws = torch.Generator().manual_seed(0)
    image = 0.1 * torch.randn(truth.shape, generator=draws)
    y = 0.2 * torch.randn(truth.shape, generator=draws)
    moved = consistent(Identity(SHAPE), y, image, noise=0.2)
    share = 0.1**2 / (0.1**2 + 0.2**2)
    torch.testing.assert_close(moved, image + share * (y - image), rtol=0, atol=0.03)
    level = error_level(Identity(SHAPE), y - image, 0.2)
    assert abs(float(level) - 0.1) < 0.01


def test_unknown_noise_and_what_is_not_linear_leave_the_picture_alone(
    tiny: TinyGenerator, fit: Fit
) -> None:
    y = natural()
    unknown = InverseTask(tiny, Identity(SHAPE), y, schedule=schedule(), noise_sigma=None)
    crooked = InverseTask(tiny, lambda x: x**3, y, schedule=schedule())
    for task in (unknown, crooked):
        assert [stage.solver for stage in task.schedule.stages] == ["adam", "adam"]
        assert not task.consistent
        assert fit(task).results["image0"].point.deviation is None
    with pytest.raises(ConfigurationError, match="linear operator"):
        InverseTask(tiny, lambda x: x**3, y, schedule=schedule(), consistency=True)


def test_the_data_step_solves_its_own_equation() -> None:
    operator, noise, level, weight = Separable.bicubic(SHAPE, 2), 0.1, torch.tensor([0.3]), 0.5
    images, y = natural(), operator(natural().flip(-1))
    x = to_measurements(operator, y, images, noise, level, weight)
    slope = operator.adjoint(operator(x) - y) / noise**2 + weight * (x - images) / level**2
    assert slope.abs().max() < 1e-3
    exact = to_measurements(operator, y, images, 0.0, level, weight)
    torch.testing.assert_close(operator(exact), y, rtol=0, atol=1e-5)


def test_what_is_kept_of_the_generator_is_a_mean(tiny: TinyGenerator, fit: Fit) -> None:
    """Of its picture, moved to the measurements, and of what the proximal steps find without it; with noise nothing is."""
    operator = Separable.bicubic(SHAPE, 4)
    y = operator(natural())

    def found(keep: float, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        task = InverseTask(
            tiny,
            operator,
            y,
            schedule=schedule(keep=keep),
            ids=["a"],
            noise_sigma=noise,
            consistency=False,
        )
        point = fit(task).results["a"].point
        assert point.deviation is not None
        bare = render(tiny, point.bare(), "v")
        return bare, bare + point.deviation

    bare, kept = found(1.0)
    near: Any = {"atol": 2e-3, "rtol": 0}  # deviations are kept in half precision
    torch.testing.assert_close(kept, consistent(operator, y, bare), **near)
    torch.testing.assert_close(found(0.25)[1], 0.75 * found(0.0)[1] + 0.25 * kept, **near)
    assert torch.equal(found(0.5, noise=0.1)[1], found(0.0, noise=0.1)[1])


def test_levels_fall_geometrically() -> None:
    error = torch.tensor([8 / 127.5])

    def grey(noise: float, spec: Proximal, error: Tensor = error) -> list[float]:
        return [float(strength(spec, error, noise / 127.5, k, 3)) * 127.5 for k in range(3)]

    assert grey(0, Proximal(end=2.0)) == pytest.approx([12, 24**0.5, 2], rel=1e-5)
    assert grey(0, Proximal(end=2.0), 0 * error) == pytest.approx([8, 4, 2], rel=1e-5)
    assert grey(32, Proximal(end=2.0)) == pytest.approx([32, 32 / 2**0.5, 16], rel=1e-5)
    assert grey(0, Proximal(start=50.0, end=2.0)) == pytest.approx([50, 10, 2], rel=1e-5)


def test_a_seam_is_closed_and_the_rim_does_not_reach_far() -> None:
    mask = torch.ones(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 0
    residual = torch.full((1, 3, 64, 64), 0.2)
    filled = blended(mask, residual * mask)
    assert filled[..., 16, 32].min() > 0.15  # beside the rim
    assert 0 < filled[..., 32, 32].max() < 0.1  # in the middle
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    dots = Mask.random((3, 64, 64), 0.5, 0, ["a"]).mask
    assert (blended(dots, ramp * dots) - ramp).abs().mean() < 0.01


def test_total_variation_has_no_duality_gap() -> None:
    """The optimum x = y + w div p has TV(x) = -<div p, x>, for the best p of |p| <= 1."""
    noisy = natural() + 0.2 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([0.2])
    found = total_variation(noisy, weight)

    def objective(x: Tensor) -> float:
        size = gradient(x).square().sum((1, 2)).sqrt().sum()
        return float((x - noisy).square().sum() / 2 + 0.2 * size)

    assert objective(found) < objective(noisy)
    for seed in range(3):
        step = 0.01 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))
        assert objective(found) < objective(found + step)
    field = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        (gradient(noisy) * field).sum(), -(noisy * divergence(field)).sum(), rtol=1e-4, atol=1e-3
    )


def test_the_learned_denoiser_denoises_faces_of_any_size(real: Any) -> None:
    latents = torch.randn(1, real.latent_dim, generator=torch.Generator().manual_seed(5))
    face = F.interpolate(real(latents, "z").clamp(-1, 1), (127, 90), mode="area")
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    for grey in (5.0, 25.0, 50.0):
        sigma = torch.tensor([grey / 127.5])
        left = (LearnedDenoiser()(face + sigma * noise, sigma) - face).square().mean().sqrt()
        assert left < (0.75 if grey < 10 else 0.45) * sigma


def test_other_denoisers_and_one_that_is_not_there(
    tiny: TinyGenerator, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, truth = OPERATORS["mask"], natural()
    y = operator(truth)

    def error(name: str, steps: int = 8) -> float:
        given = schedule(steps, denoiser=name, start=25.0)
        found = fit(InverseTask(tiny, operator, y, schedule=given, ids=["a"])).results["a"].image
        return float((found - truth[0]).square().mean())

    plain = error("learned", 0)
    assert error("tv") < plain
    if importlib.util.find_spec("bm3d"):  # an extra
        assert error("bm3d", 2) < plain
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ConfigurationError, match="needs the package 'bm3d'"):
        InverseTask(tiny, operator, y, schedule=schedule(4, denoiser="bm3d"), ids=["a"])


def test_the_point_of_an_image_keeps_its_deviation(tiny: TinyGenerator, fit: Fit) -> None:
    operator, truth = OPERATORS["mask"], natural()
    task = InverseTask(tiny, operator, operator(truth), schedule=schedule(), ids=["a"])
    point = fit(task).results["a"].point
    assert point.deviation is not None
    assert torch.equal(point.deviation, point.deviation.half().float())
    assert not torch.equal(
        render(tiny, replace(point, deviation=None), "v"), render(tiny, point, "v")
    )
