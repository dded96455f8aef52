"""The promises that the engine keeps (docs/architecture.md), on the tiny generator."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
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
    Radii,
    Reencode,
    Schedule,
    Stage,
    TinyGenerator,
    load_point,
    render,
    seeding,
)
from ilo_pl.errors import OutputError
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import to_bytes
from ilo_pl.operators import Mask
from ilo_pl.runs.writer import ResultWriter
from tests.conftest import IDS, images
from tests.oracle import published_loop

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]

BALLS = Radii(hidden=0.02, latents=0.05, noises=0.05)
# Adam divides by the size of a gradient: at a high rate it would blow rounding up to visible sizes.
RATE: dict[str, Any] = {"lr": 0.01, "radii": BALLS, "reencode": Reencode(steps=5, lr=0.01)}
FULL = Schedule(
    stages=(
        Stage(split=0, steps=12, free_noises=1, lr=0.01),
        Stage(split=1, steps=8, free_noises=2, rounds=2, **RATE),
        Stage(split=2, steps=8, free_noises=3, **RATE),
        Stage(split=3, steps=8, free_noises=4, rounds=2, **RATE),
    )
)
STEPS = 12 + 4 * (8 + 5) + 8


# 1. A result depends on the image, its measurements, the configuration and the seed -----------------


def test_a_batch_equals_single_runs_to_rounding(make_task: MakeTask, fit: Fit) -> None:
    together = images(fit(make_task(FULL, batch_size=4)))
    apart = torch.cat([images(fit(make_task(FULL, (i,)))) for i in range(4)])
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=0)  # 8 bits: 8e-3


def test_neighbours_and_order_change_nothing(make_task: MakeTask, fit: Fit) -> None:
    forth = fit(make_task(FULL, (0, 1, 2), batch_size=2)).results
    back = fit(make_task(FULL, (2, 1, 0), batch_size=2)).results
    for name in IDS[:3]:
        torch.testing.assert_close(forth[name].image, back[name].image, atol=1e-3, rtol=0)


class StopAt(pl.Callback):
    """Save a checkpoint after one step of the run and break off."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "step", [1, 12, 13, 20, 23, 33, 40, 60, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS - 1]
)
def test_an_interruption_changes_no_bit(
    make_task: MakeTask, fit: Fit, tmp_path: Path, step: int
) -> None:
    task = make_task(FULL, (0, 1, 2), batch_size=2)
    assert FULL.total_steps == STEPS
    whole = fit(task)
    saved = tmp_path / "stop.ckpt"
    # Lightning turns Ctrl-C into an exit.
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task, callbacks=[StopAt(step, saved)])
    resumed = fit(task, ckpt_path=str(saved))
    for name, result in resumed.results.items():
        assert torch.equal(result.image, whole.results[name].image)
        assert result.loss == whole.results[name].loss
    assert set(resumed.results) == {"ann", "bob", "cyd"}


@pytest.mark.parametrize("step", [5, 30, STEPS, STEPS + 9, 2 * STEPS])
def test_a_fit_that_max_steps_ended_goes_on_from_its_checkpoint(
    make_task: MakeTask, fit: Fit, tmp_path: Path, step: int
) -> None:
    """Also from the checkpoint of a finished run, which has nothing left to do."""
    task = make_task(FULL, (0, 1, 2), batch_size=2)
    whole = fit(task)
    first = ILOInversion(task)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=step,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.fit(first)
    ended = [str(w.message) for w in said if "without a result" in str(w.message)]
    # The fit says which images are missing; of the finished one it says nothing.
    missing = (
        ["ann", "bob", "cyd"]
        if step <= STEPS - (step == STEPS)
        else ["cyd"]
        if step < 2 * STEPS
        else []
    )
    assert [all(name in text for name in missing) for text in ended] == ([True] if missing else [])
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    resumed = fit(task, ckpt_path=str(tmp_path / "end.ckpt"))
    assert set(resumed.results) == {"ann", "bob", "cyd"}
    for name, result in resumed.results.items():
        assert torch.equal(result.image, whole.results[name].image)


# 2. A new stage starts from the very image that the last one ended on ------------------------------


@pytest.mark.parametrize("split", [1, 2, 3, 4])
def test_stages_without_steps_return_the_first_stages_image(
    make_task: MakeTask, fit: Fit, split: int
) -> None:
    first = Stage(split=0, steps=5, free_noises=2)
    csgm = images(fit(make_task(Schedule(stages=(first,)), consistency=False)))
    more = (Stage(split=1, steps=0), Stage(split=split, steps=0, free_noises=4))
    deviation = Stage(split=split, steps=0, free_noises=4, solver="proximal")
    more = (*more, deviation)
    walked = images(fit(make_task(Schedule(stages=(first, *more)), consistency=False)))
    assert torch.equal(walked, csgm)


@pytest.mark.parametrize("layout", ["shared", "per_slot"])
def test_reencoding_lands_in_the_range_and_says_what_it_cost(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, layout: str
) -> None:
    """With nothing moved after it, re-encoding must return an image of the range of G1."""
    schedule = Schedule(
        latent_layout=layout,
        stages=(
            Stage(split=0, steps=5, free_noises=0),
            Stage(split=2, steps=20, free_noises=0, reencode=Reencode(steps=200, lr=0.02)),
            Stage(split=2, steps=0, free_noises=0),
        ),
    )
    inversion = fit(make_task(schedule, (0,)))
    solved, reencoded = inversion.results["ann"].stages[1:]
    cost = solved.reencoding
    assert cost is not None
    assert 0 < float(cost) < 1
    point = inversion.results["ann"].point
    # Independent check: no other latents found by a fit of our own come much closer to hidden'.
    target = point.hidden
    latents = torch.zeros(1, 1 if layout == "shared" else 2, 16, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    distance = 1.0
    for _ in range(400):
        optimizer.zero_grad()
        styles = tiny.to_styles(latents, "v").expand(-1, 2, -1)
        state = tiny.run({}, styles, [None, None], 0, 2)
        loss = torch.cat([(state[n] - target[n]).flatten() for n in target]).square().mean()
        distance = loss.item()
        loss.backward()
        optimizer.step()
    assert distance < 1e-4  # hidden' is in the range ...
    assert float(cost) ** 2 > 10 * distance  # ... and the solution was not
    assert not torch.equal(solved.image, reencoded.image)


# 3. Feasibility -------------------------------------------------------------------------------------


class CheckBalls(pl.Callback):
    def __init__(self) -> None:
        self.norms: dict[str, list[float]] = {"hidden": [], "latents": [], "noises": []}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        stage = pl_module.stage
        centre = dict(stage.centre.point().named())
        for kind, norms in self.norms.items():
            moved = [v - centre[n] for n, v in stage.point().named() if n.startswith(kind)]
            if getattr(stage.spec.radii, kind) is None or not moved:
                continue
            norm = sum(m.double().abs().flatten(1).sum(1) for m in moved)
            assert isinstance(norm, Tensor)
            limit = getattr(stage.spec.radii, kind) * sum(m[0].numel() for m in moved)
            norms.extend((norm / limit).tolist())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_image_stays_in_its_balls(make_task: MakeTask, fit: Fit, precision: str) -> None:
    balls = CheckBalls()
    inversion = fit(make_task(FULL, batch_size=2), callbacks=[balls], precision=precision)
    assert all(p.dtype == torch.float32 for p in inversion.stage.parameters())
    for norms in balls.norms.values():
        assert len(norms) > 50
        assert max(norms) <= 1 + 1e-5
        assert max(norms) > 0.999  # the bound is met, so the projection had something to do


# 4. The kept iterate is the best one ----------------------------------------------------------------


class Losses(pl.Callback):
    """Evaluate every point before its step, by means of its own."""

    def __init__(self, measured: Tensor, mask: Mask) -> None:
        self.measured, self.mask = measured, mask
        self.seen: dict[int, list[Tensor]] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        stage = pl_module.stage
        if pl_module.phase.kind == "solve":
            image = render(pl_module.task.generator, stage.point(), "v")
            loss = (self.mask.mask * image - self.measured).square().mean((1, 2, 3))
            self.seen.setdefault(pl_module.phase.stage, []).append(loss)


def test_the_best_iterate_of_each_image_is_kept(
    make_task: MakeTask, fit: Fit, truth: Tensor, mask: Mask
) -> None:
    # A rate this high makes the loss rise and fall, at other steps for each image.
    schedule = Schedule(
        stages=tuple(Stage(split=k, steps=15, lr=0.6, free_noises=k + 1) for k in range(3))
    )
    losses = Losses(mask(truth), mask)
    inversion = fit(make_task(schedule, batch_size=4), callbacks=[losses])
    best = {stage: torch.stack(seen).min(0) for stage, seen in losses.seen.items()}
    assert len({int(i) for b in best.values() for i in b.indices}) > 2
    for i, name in enumerate(IDS):
        for record in inversion.results[name].stages:
            share = 3 * 32 * 32 / float(mask.observed()[i])
            # The picture that the stage recorded is the one of the lowest loss seen.
            assert float(record.loss) == pytest.approx(
                float(best[record.stage].values[i]) * share, rel=1e-3
            )


def test_result_last_and_best(make_task: MakeTask, fit: Fit) -> None:
    """A last stage that starts badly and gets no time is returned by ``last`` and not by ``best``."""
    stages = (
        Stage(split=0, steps=30, free_noises=4),
        Stage(split=1, steps=30, lr=0.02, free_noises=4, reencode=Reencode(steps=1, lr=1e-6)),
        Stage(split=2, steps=0),
    )
    last = fit(make_task(Schedule(stages=stages, result="last"), (0,))).results["ann"]
    best = fit(make_task(Schedule(stages=stages, result="best"), (0,))).results["ann"]
    by_stage = [float(record.loss) for record in best.stages]
    assert last.point.split == 2
    assert last.loss == pytest.approx(by_stage[2])
    assert best.loss == min(by_stage) < last.loss
    assert best.point.split == 1


def test_equals_the_published_loop(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, truth: Tensor, mask: Mask
) -> None:
    splits, free = (0, 1, 3), (2, 3, 4)
    schedule = Schedule(
        stages=tuple(
            Stage(split=k, steps=20, lr=0.02, free_noises=n)
            for k, n in zip(splits, free, strict=True)
        )
    )
    ours = images(fit(make_task(schedule, batch_size=4, consistency=False)))
    start = seeding.normal((4, 16), 0, IDS, "latents")
    for i in range(4):
        one = mask.select([i])
        expected = published_loop(
            tiny,
            one,
            one(truth[i : i + 1]),
            start[i : i + 1],
            splits,
            free,
            steps=[20, 20, 20],
            lr=0.02,
            observed=float(one.observed()),
        )
        torch.testing.assert_close(ours[i : i + 1], expected, atol=1e-3, rtol=0)


# 5. Saved latents regenerate the saved image -------------------------------------------------------


@pytest.mark.parametrize("layout", ["shared", "per_slot"])
@pytest.mark.parametrize("last", [0, 3, 4])
def test_saved_latents_regenerate_the_png(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, tmp_path: Path, layout: str, last: int
) -> None:
    schedule = Schedule(
        latent_layout=layout,
        stages=(Stage(split=0, steps=3), Stage(split=last, steps=3, free_noises=4)),
    )
    writer = ResultWriter(RunFolder(tmp_path), GeneratorConfig(name="tiny"))
    fit(make_task(schedule, (0, 1), batch_size=2), callbacks=[writer], precision="bf16-mixed")
    for name in IDS[:2]:
        point, about = load_point(tmp_path / "latents" / f"{name}.safetensors")
        assert about["generator"] == "tiny"
        again = to_bytes(render(tiny, point, about["space"])[0]).permute(1, 2, 0).numpy()
        saved = np.array(Image.open(tmp_path / "reconstructions" / f"{name}.png"))
        assert np.array_equal(again, saved)


# 6. Nothing half written ----------------------------------------------------------------------------


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_text("a.txt", "before")

    def fill(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="no space is left"):
        folder.write("a.txt", fill)
    assert [p.name for p in folder.path.iterdir()] == ["a.txt"]
    assert (folder.path / "a.txt").read_text() == "before"
