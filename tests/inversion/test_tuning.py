"""Stages that tune the generator to each image, on the tiny generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from ilo_pl import (
    ILOInversion,
    InverseTask,
    LrScale,
    Mask,
    Reencode,
    Schedule,
    Stage,
    TinyGenerator,
    Tune,
    load_method,
    load_point,
    render,
)
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.generators.point import Point, carry
from ilo_pl.generators.tuned import unit, weights_behind
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import to_bytes
from ilo_pl.runs.latents import check_point
from ilo_pl.runs.writer import ResultWriter
from tests.conftest import IDS, images

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
RADIUS = 0.02
FIRST = Stage(split=0, steps=6, lr=0.05)
TUNED = Stage(
    split=1,
    steps=12,
    lr=0.02,
    tune=Tune(weights="all", radius=RADIUS),
    lr_scale=LrScale(weights=1.0),
)
SCHEDULE = Schedule(stages=(FIRST, Stage(split=1, steps=4, lr=0.02), TUNED))


def other(point: Point, split: int = 1) -> Point:
    """Return a point with other weights, seeded."""
    rng = torch.Generator().manual_seed(3)
    tiny = TinyGenerator(0)
    shapes = {n: p.shape for n, p in tiny.named_parameters()}
    weights = {
        n: 0.1 * torch.randn(len(point.latents), *shapes[n], generator=rng)
        for n in weights_behind(tiny, split)
    }
    return Point(point.split, point.hidden, point.latents, point.noises, weights=weights)


# ---- a point with weights ---------------------------------------------------------------------------


def test_differences_are_added_to_the_weights_of_each_image(tiny: TinyGenerator) -> None:
    """Against a copy of the network whose weights are really changed."""
    latents = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(1))
    point = other(Point(0, {}, latents, {}), 0)
    together = render(tiny, point, "z")
    for i in range(3):
        changed = TinyGenerator(0)
        with torch.no_grad():
            for name, weight in changed.named_parameters():
                if name in point.weights:
                    weight.add_(unit(weight) * point.weights[name][i])
        expected = changed(latents[i : i + 1], "z").clamp(-1, 1)
        torch.testing.assert_close(together[i : i + 1], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(together, render(tiny, Point(0, {}, latents, {}), "z"), atol=0.01)


def test_the_weights_behind_a_split_are_those_its_blocks_use(tiny: TinyGenerator) -> None:
    assert set(weights_behind(tiny, 3)) == {
        f"{layer}.3.{kind}"
        for layer in ("modulations", "convs", "to_rgb")
        for kind in ("weight", "bias")
    }
    assert "const" in weights_behind(tiny, 0)
    assert "const" not in weights_behind(tiny, 1)
    assert not any(name.startswith("latents") for name in weights_behind(tiny, 0))
    assert weights_behind(tiny, tiny.last) == ()


def test_a_deeper_cut_shows_the_same_image(tiny: TinyGenerator) -> None:
    point = other(
        Point(0, {}, torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(1)), {}), 0
    )
    deeper = carry(tiny, point, "z", 2)
    assert set(deeper.weights) == set(weights_behind(tiny, 2))
    assert torch.equal(render(tiny, deeper, "z"), render(tiny, point, "z"))


# ---- the search -------------------------------------------------------------------------------------


def test_zero_steps_change_nothing(make_task: MakeTask, fit: Fit) -> None:
    plain = images(fit(make_task(Schedule(stages=SCHEDULE.stages[:2]))))
    idle = TUNED.model_copy(update={"steps": 0})
    assert torch.equal(images(fit(make_task(Schedule(stages=(*SCHEDULE.stages[:2], idle))))), plain)


@pytest.mark.parametrize("weights", ["all", "kernels"])
def test_every_image_stays_in_its_ball(make_task: MakeTask, fit: Fit, weights: Any) -> None:
    norms: list[Tensor] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            moved = pl_module.stage.point().weights
            if moved:
                flat = torch.cat([v.detach().double().flatten(1) for v in moved.values()], 1)
                norms.append(flat.square().mean(1).sqrt() / RADIUS)

    stage = TUNED.model_copy(update={"tune": Tune(weights=weights, radius=RADIUS)})
    inversion = fit(
        make_task(Schedule(stages=(FIRST, stage)), batch_size=4),
        callbacks=[Watch()],
        precision="bf16-mixed",
    )
    names = set(inversion.results["ann"].point.weights)
    assert names and (
        weights == "all" or all(n.endswith("weight") and "modul" not in n for n in names)
    )
    measured = torch.stack(norms)
    assert measured.shape[0] >= TUNED.steps - 1
    assert 0.999 < float(measured.max()) <= 1 + 1e-6
    moved = torch.cat([inversion.results[i].point.weights["convs.3.weight"] for i in IDS])
    assert float(moved.var(0).min()) > 0  # each image is moved by itself


def test_a_batch_equals_single_runs_to_rounding(make_task: MakeTask, fit: Fit) -> None:
    together = images(fit(make_task(SCHEDULE, (0, 1), batch_size=2)))
    apart = torch.cat([images(fit(make_task(SCHEDULE, (i,)))) for i in range(2)])
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=0)


@pytest.mark.parametrize("step", [10, 15, 22])
def test_an_interruption_changes_no_bit(
    make_task: MakeTask, fit: Fit, tmp_path: Path, step: int
) -> None:
    """At the switch to the tuned stage, in the midst of it, and at the end of the first unit."""
    task = make_task(SCHEDULE, (0, 1, 2), batch_size=2)
    whole, saved = fit(task), tmp_path / "stop.ckpt"

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(saved)
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task, callbacks=[Stop()])
    resumed = fit(task, ckpt_path=str(saved))
    for name, result in resumed.results.items():
        assert torch.equal(result.image, whole.results[name].image)
        for key, value in result.point.weights.items():
            assert torch.equal(value, whole.results[name].point.weights[key])


def test_saved_latents_regenerate_the_png(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, tmp_path: Path
) -> None:
    writer = ResultWriter(RunFolder(tmp_path), GeneratorConfig(name="tiny"))
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    fit(make_task(SCHEDULE, (0, 1), batch_size=2), callbacks=[writer], precision="bf16-mixed")
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    for name in IDS[:2]:
        point, about = load_point(tmp_path / "latents" / f"{name}.safetensors")
        check_point(tiny, point, about["space"])
        again = to_bytes(render(tiny, point, about["space"])[0]).permute(1, 2, 0).numpy()
        saved = np.array(Image.open(tmp_path / "reconstructions" / f"{name}.png"))
        assert np.array_equal(again, saved)
        assert not torch.equal(
            render(tiny, point, "v"), render(tiny, replace(point, weights={}), "v")
        )


def test_an_image_outside_the_range_is_met_better(tiny: TinyGenerator, fit: Fit) -> None:
    """An image of another random network, all of it observed, and as many steps for both."""
    truth = TinyGenerator(5)(
        torch.randn(1, 16, generator=torch.Generator().manual_seed(2)), "z"
    ).clamp(-1, 1)
    operator = Mask(torch.ones(32, 32))

    def loss(last: Stage) -> float:
        stages = (Stage(split=0, steps=40), Stage(split=1, steps=40, lr=0.05), last)
        task = InverseTask(tiny, operator, operator(truth), schedule=Schedule(stages=stages))
        return fit(task).results["image0"].loss

    plain = Stage(split=1, steps=60, lr=0.05)
    tune, scale = Tune(weights="all", radius=0.3), LrScale(weights=0.2)
    assert loss(plain.model_copy(update={"tune": tune, "lr_scale": scale})) < 0.8 * loss(plain)


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"tune": {"weights": "some"}}, "tune.weights = 'some' cannot be used: give none, all or kernels"),
        ({"tune": {"wieghts": "all"}}, "There is no key 'tune.wieghts'.\nDid you mean 'weights'"),
        ({"tune": {"radius": 0.1}}, "no stage tunes weights"),
        ({"tune": {"weights": "all", "radius": -1}}, "tune.radius = -1"),
        ({"tune": {"weights": "all"}, "reencode": {"steps": 3}}, "Stage 2 re-encodes its solution, and stage 1"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_method("ilo", **keys)


def test_the_image_has_no_weights_behind_it(make_task: MakeTask) -> None:
    image = Stage(split=-1, steps=1, tune=Tune(weights="all"), lr_scale=LrScale(hidden=0))
    with pytest.raises(ConfigurationError, match="has no variable to search"):
        make_task(Schedule(stages=(FIRST, image)))
    with pytest.raises(ConfigurationError, match="no such weights behind split 4"):
        make_task(Schedule(stages=(FIRST, image.model_copy(update={"lr_scale": LrScale()}))))


def test_reencoding_before_tuning_is_fine(make_task: MakeTask, fit: Fit) -> None:
    before = Stage(split=1, steps=2, reencode=Reencode(steps=2))
    assert (
        fit(make_task(Schedule(stages=(FIRST, before, TUNED)), (0,))).results["ann"].point.weights
    )


@pytest.mark.parametrize(
    ("name", "shape"), [("convs.9.weight", (8, 8, 3, 3)), ("convs.3.weight", (8, 8, 3, 2))]
)
def test_weights_of_another_generator_are_refused(
    tiny: TinyGenerator, name: str, shape: tuple[int, ...]
) -> None:
    point = Point(0, {}, torch.zeros(1, 4, 16), {}, weights={name: torch.zeros(1, *shape)})
    with pytest.raises(InputError, match=f"weights '{name}'"):
        check_point(tiny, point, "v")
