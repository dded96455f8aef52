"""A search is told from another one by what it works on, not by names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ilo_pl import InverseTask, Schedule, Stage, TinyGenerator
from ilo_pl.inversion.identity import differing, fingerprint
from ilo_pl.inversion.source import Batch
from ilo_pl.operators import Mask, Separable
from tests.conftest import IDS

SHORT = Schedule(stages=(Stage(split=0, steps=6),))
MakeTask = Callable[..., InverseTask]


def of(task: InverseTask, **changes: Any) -> dict[str, str]:
    return fingerprint(replace(task.source.load([0, 1]), **changes), task)


def test_what_differs_is_named(make_task: MakeTask, truth: Tensor, mask: Mask) -> None:
    task = make_task(SHORT, batch_size=2)
    before, batch = of(task), task.source.load([0, 1])
    assert differing(before, of(make_task(SHORT, batch_size=2))) == []
    # What another machine rounds otherwise is the same, one pixel that is not is not.
    shaken = batch.measurements * (1 + 1e-6 * torch.randn_like(batch.measurements))
    assert differing(before, of(task, measurements=shaken)) == []
    pixel = batch.measurements.clone()
    pixel[1, 0, 5, 5] += 0.5
    assert differing(before, of(task, measurements=pixel)) == [f"measurements of {IDS[1]}"]
    swapped = batch.measurements.flip(0)
    assert differing(before, of(task, measurements=swapped)) == [
        f"measurements of {IDS[0]}",
        f"measurements of {IDS[1]}",
    ]
    other = mask.select([0, 2])
    assert differing(before, of(task, operator=other)) == [f"operator of {IDS[1]}"]
    longer = Schedule(stages=(Stage(split=0, steps=7),))
    assert differing(before, of(make_task(longer, batch_size=2, seed=1))) == [
        "seed",
        "schedule.stages.0.steps",
    ]


def test_weights_and_settings_count(truth: Tensor) -> None:
    def made(seed: int, sigma: float) -> dict[str, str]:
        operator = Separable.gaussian_blur((3, 32, 32), sigma)
        task = InverseTask(TinyGenerator(seed=seed), operator, operator(truth), schedule=SHORT)
        # Measurements of one operator, so that the other's stand alone.
        measured = Separable.gaussian_blur((3, 32, 32), 2.0)(truth[:1])
        return fingerprint(Batch(("a",), measured, operator), task)

    assert differing(made(0, 2.0), made(0, 2.0)) == []
    assert differing(made(0, 2.0), made(1, 2.0)) == ["generator"]
    assert differing(made(0, 2.0), made(0, 2.5)) == ["operator of a"]


def test_a_newer_versions_key_and_damage_do_no_harm(make_task: MakeTask) -> None:
    now = of(make_task(SHORT, batch_size=2))
    older = {k: v for k, v in now.items() if not k.endswith("ramp_up")}
    assert differing(older, now) == []
    for text in ("", "sketch:3x32x32", "sketch:3x32x32 x y z 1 2", "|"):
        damaged = now | {f"measurements of {IDS[0]}": text}
        assert differing(damaged, now) == [f"measurements of {IDS[0]}"]


def test_nothing_is_read_from_a_device_without_memory(make_task: MakeTask) -> None:
    task = make_task(SHORT, batch_size=2)
    batch = task.source.load([0, 1])
    operator: nn.Module = batch.operator
    meta = replace(batch, measurements=batch.measurements.to("meta"))
    assert fingerprint(meta, task)["images"] == f"{IDS[0]}, {IDS[1]}"
    assert operator is batch.operator
