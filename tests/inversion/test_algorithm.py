"""Algorithm 1 as one function: the same bits as the module, and what its re-encoding means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl import (
    ILOInversion,
    InverseTask,
    Mask,
    Point,
    Radii,
    Reencode,
    Schedule,
    Stage,
    TinyGenerator,
)
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.algorithm import Entry, Search, complete, intermediate_layer_optimization
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.stage import Engine, ILOStage, ReencodeStage, minimise
from ilo_pl.inversion.start import first_point
from tests.conftest import IDS

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]

BALLS = Radii(hidden=0.05, latents=0.05, noises=0.05)
ROUNDS: dict[str, Any] = {
    "rounds": 3,
    "lr": 0.05,
    "radii": BALLS,
    "reencode": Reencode(steps=4, lr=0.02),
}
SCHEDULE = Schedule(
    stages=(
        Stage(split=0, steps=6, free_noises=1),
        Stage(split=1, steps=5, free_noises=3, **ROUNDS),
        Stage(split=1, steps=3, free_noises=3, **ROUNDS),
        Stage(split=3, steps=5, free_noises=4, **ROUNDS),
    )
)


class Solutions(pl.Callback):
    """Keep the best point of every solve; the stage switch comes after this."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if pl_module.switch_is_due and pl_module.phase.kind == "solve":
            self.points.append(pl_module.stage.best_point())


def equal(one: Point, other: Point) -> bool:
    a, b = dict(one.named()), dict(other.named())
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_function_and_module_find_the_same_bits(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, mask: Mask, truth: Tensor
) -> None:
    task = make_task(SCHEDULE, (0, 1), batch_size=2)
    seen = Solutions()
    inversion = fit(task, callbacks=[seen])

    engine = Engine(tiny, "v")
    batch = task.source.load([0, 1])
    found: list[Point] = []
    step = 0

    def solve(search: Search) -> Point:
        nonlocal step
        if search.target is None:
            objective = Objective(batch, search.spec.losses)
            stage: Any = ILOStage(engine, search.spec, search.start, objective, search.centre)
            found.append(minimise(stage))
            return found[-1]
        return minimise(
            ReencodeStage(engine, search.spec, search.start, search.centre, search.target)
        )

    start = first_point(task, batch, engine)
    last = complete(
        intermediate_layer_optimization(tiny, task.schedule, Entry(0, start, start)), solve
    )
    assert len(found) == len(seen.points) == 1 + 3 * 3
    assert all(equal(a, b) for a, b in zip(found, seen.points, strict=True))
    assert equal(last, found[-1])
    assert inversion.results[IDS[0]].stages[-1].loss is not None


class Deviations(pl.Callback):
    """How far each kind of variable is from where its stage began, per scalar."""

    def __init__(self) -> None:
        self.starts: dict[int, dict[str, Tensor]] = {}
        self.largest: dict[str, float] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if pl_module.phase.kind != "solve" or pl_module.phase.stage == 0:
            return
        stage = pl_module.stage
        entered = self.starts.setdefault(
            pl_module.phase.stage, {n: v.clone() for n, v in stage.centre.point().named()}
        )
        for name, value in stage.point().named():
            if not name.startswith("hidden"):
                kind = name.split(".")[0]
                moved = float((value - entered[name]).detach().abs().flatten(1).mean(1).max())
                self.largest[kind] = max(self.largest.get(kind, 0), moved)


def test_rounds_leave_latents_and_noises_in_the_balls_they_began_in(
    make_task: MakeTask, fit: Fit
) -> None:
    schedule = Schedule(
        stages=(
            Stage(split=0, steps=3, free_noises=0),
            Stage(
                split=1,
                steps=12,
                rounds=3,
                lr=0.3,
                free_noises=4,
                # One noise, so that its mean is the ball's.
                radii=Radii(latents=0.05),
                reencode=Reencode(steps=3, lr=0.02),
            ),
        )
    )
    seen = Deviations()
    fit(make_task(schedule, (0,)), callbacks=[seen])
    assert 0.0499 < seen.largest["latents"] <= 0.05 * (1 + 1e-5)


def given(point: Point) -> Callable[[Sequence[str]], Point]:
    return lambda ids: point


def test_a_start_at_the_first_stages_split_has_no_range_to_be_reencoded_into(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator
) -> None:
    stages = (Stage(split=2, steps=3, rounds=2, reencode=Reencode(steps=3)),)
    state = tiny.run({}, torch.zeros(1, 4, 16), [None] * 4, 0, 2)
    task = make_task(
        Schedule(stages=stages), (0,), start=given(Point(2, state, torch.zeros(1, 2, 16), {}))
    )
    with pytest.raises(ConfigurationError, match="no range is known before it"):
        fit(task)


def test_a_start_before_the_first_stages_split_is_the_range(make_task: MakeTask, fit: Fit) -> None:
    stages = (Stage(split=2, steps=3, rounds=2, free_noises=0, reencode=Reencode(steps=9)),)
    start = Point(0, {}, torch.zeros(1, 4, 16), {})
    task = make_task(Schedule(stages=stages), (0,), start=given(start))
    first, second = fit(task).results["ann"].stages
    assert first.reencoding is not None
    assert 0 < float(first.reencoding) < 1
    assert second.split == 2


def test_a_second_stage_at_a_split_is_reencoded_into_the_range_before_both(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator
) -> None:
    """Were its range that of the stage at the same split, G1 would be the identity and the cost none."""
    free: dict[str, Any] = {"free_noises": 0, "lr": 0.05}
    stages = (
        Stage(split=0, steps=5, free_noises=0),
        Stage(split=2, steps=5, **free),
        Stage(split=2, steps=10, **free, reencode=Reencode(steps=150, lr=0.02)),
        Stage(split=2, steps=0, **free),
    )
    result = fit(make_task(Schedule(stages=stages), (0,))).results["ann"]
    cost = result.stages[2].reencoding
    assert cost is not None
    assert float(cost) > 0.01
    # The re-encoded state is in the range of G1 from the latent: a fit of our own gets there.
    latents = torch.zeros(1, 2, 16, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        state = tiny.run({}, tiny.to_styles(latents, "v"), [None, None], 0, 2)
        difference = [(state[n] - result.point.hidden[n]).flatten() for n in state]
        loss = torch.cat(difference).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


def test_nothing_free_before_a_reencoded_split_is_refused(make_task: MakeTask) -> None:
    scale = {"hidden": 1.0, "latents": 0.0, "noises": 0.0}
    stages = (
        Stage(split=0, steps=0, lr_scale=scale),
        Stage(split=2, steps=3, rounds=2, reencode=Reencode(steps=3)),
    )
    with pytest.raises(ConfigurationError, match=r"Stage 2 re-encodes .* no variable to search"):
        make_task(Schedule(stages=stages))


class Judged(pl.Callback):
    """Evaluate every iterate without noise, by means of its own, and with it."""

    def __init__(self, measured: Tensor, mask: Mask) -> None:
        self.measured, self.mask = measured, mask
        self.clean: list[float] = []
        self.noisy: list[float] = []

    @torch.no_grad()
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        image = pl_module.stage()
        self.clean.append(float((self.mask.mask * image - self.measured).square().sum()))
        self.noisy.append(float(pl_module.stage.objective(pl_module.step)[1]))


def test_noise_addition_does_not_choose_the_iterate(
    make_task: MakeTask, fit: Fit, mask: Mask, truth: Tensor
) -> None:
    """Strong noise makes the noisy loss of some early step the lowest; the clean one says which is."""
    one = mask.select([0])
    judged = Judged(one(truth[:1]), one)
    stage = Stage(split=0, steps=40, lr=0.3, sna=60.0)
    inversion = fit(make_task(Schedule(stages=(stage,)), (0,)), callbacks=[judged])
    best = float(inversion.results["ann"].stages[0].loss) * float(one.observed())
    assert best == pytest.approx(min(judged.clean), rel=1e-4)
    lucky = judged.noisy.index(min(judged.noisy))
    assert judged.clean[lucky] > 1.01 * min(judged.clean)
