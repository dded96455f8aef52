#!/usr/bin/env python
"""Where the time of a gradient step goes, and how far it is from what the machine can do.

    python scripts/benchmark_parts.py [ceilings] [steps] [parts] [lightning] [batches] [generators]
        [--repeats 9]

All in one process, on the 1024 x 1024 generator, inpainting with a tenth of the pixels: what the machine copies
and multiplies at best; forward and backward from each split, eager and compiled, in float32 and bfloat16; the
parts of a step of ``trainer.fit``, and the same steps without Lightning; seconds an image-step and memory by batch size; other generators, with random
weights. Medians, as Markdown tables. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import adam
from torch.utils.flop_counter import FlopCounterMode

from ilo_pl import ILOInversion, InverseTask, Mask, MobileStyleGAN, Schedule, Stage
from ilo_pl.callbacks.events import peak_memory
from ilo_pl.generators import SplitGenerator
from ilo_pl.generators.biggan.network import BigGANConfig, BigGANDeep
from ilo_pl.generators.point import Point, carry
from ilo_pl.generators.stylegan2.network import StyleGAN2
from ilo_pl.inversion.allocator import keep_freed_memory
from ilo_pl.inversion.compilation import Synthesizer
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.safeguard import Safeguard
from ilo_pl.inversion.stage import Engine, ILOStage, SearchStage
from ilo_pl.inversion.stage_spec import Radii
from ilo_pl.inversion.walk import Walk

TABLES = ["ceilings", "steps", "parts", "lightning", "batches", "generators"]
SPLITS = (0, 3, 4, 5)
BATCHES = (1, 2, 4, 8, 16)
MATRIX = 2048
COPIED_BYTES = 2**28
BALLS = Radii(hidden=0.2, latents=0.2)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after two that are not counted."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times[2:])


def make_task(generator: MobileStyleGAN, split: int, steps: int = 9, batch: int = 1) -> InverseTask:
    """Return an inpainting task whose one stage starts at a split; its steps leave the balls every time."""
    ids = [f"image{i}" for i in range(batch)]
    operator = Mask.random(generator.image_shape, 0.1, 0, ids)
    latents = torch.zeros(batch, generator.num_slots, generator.latent_dim)
    start = carry(generator, Point(0, {}, latents, {}), "v", split)
    stage = Stage(split=split, steps=steps, lr=1.0, free_noises=9, radii=BALLS)
    return InverseTask(
        generator,
        operator,
        torch.zeros(batch, *generator.image_shape),
        schedule=Schedule(stages=(stage,)),
        ids=ids,
        batch_size=batch,
        start=lambda ids: start,
    )


def make_stage(task: InverseTask, compiled: bool) -> ILOStage:
    """Return the stage of a task, outside of any Trainer."""
    engine = Engine(task.generator, "v", Synthesizer(task, compiled))
    walk = Walk(task, task.source.load(task.units[0]), engine)
    assert isinstance(walk.stage, ILOStage)
    return walk.stage


def step(stage: ILOStage, bfloat16: bool) -> None:
    """Do the forward and backward pass of a step."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = stage.training_step()
    loss.backward()  # type: ignore[no-untyped-call]


def ceilings(repeats: int) -> None:
    """Print what the machine copies and multiplies."""
    source = torch.zeros(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    rate = 2 * COPIED_BYTES / seconds(lambda: target.copy_(source), repeats) / 1e9
    print(f"\n{torch.get_num_threads()} threads. Copying: {rate:.1f} GB/s (read and written).")
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(MATRIX, MATRIX, dtype=dtype) for _ in range(2))
        rate = 2 * MATRIX**3 / seconds(lambda a=a, b=b: a @ b, repeats) / 1e9  # type: ignore[misc]
        print(f"Matrix products in {str(dtype).removeprefix('torch.')}: {rate:.0f} GFLOP/s.")


def steps(generator: MobileStyleGAN, repeats: int) -> None:
    """Print forward and backward by split, compilation and precision."""
    print("\n| split | GFLOP | | median step | first step | GFLOP/s |\n|---|---|---|---|---|---|")
    for split in SPLITS:
        task = make_task(generator, split)
        with FlopCounterMode(display=False) as counter:
            step(make_stage(task, compiled=False), bfloat16=False)
        work = counter.get_total_flops() / 1e9
        for compiled in (False, True):
            for bfloat16 in (False, True):
                stage = make_stage(task, compiled)
                began = time.perf_counter()
                step(stage, bfloat16)
                first = time.perf_counter() - began
                took = seconds(lambda s=stage, b=bfloat16: step(s, b), repeats)  # type: ignore[misc]
                how = f"{'compiled' if compiled else 'eager'}, {'bfloat16' if bfloat16 else 'float32'}"
                print(
                    f"| {split} | {work:.1f} | {how} | {took:.3f} s | {first:.1f} s | {work / took:.0f} |",
                    flush=True,
                )


class Timers:
    """Adds up the time spent in functions, while it is entered; nested ones count for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._inner: list[float] = []
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Time the calls of a function or method under a name."""
        original = getattr(owner, attribute)
        spent = self.seconds.setdefault(name, [])

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                spent.append(took - self._inner.pop())
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, attribute, timed)
        self._undo.append(lambda: setattr(owner, attribute, original))

    def __enter__(self) -> Timers:
        return self

    def __exit__(self, *error: object) -> None:
        for undo in self._undo:
            undo()


def part_times(task: InverseTask) -> dict[str, float]:
    """Return median seconds of each part of a compiled bfloat16 step, within trainer.fit."""
    operator = type(task.source.load([0]).operator)
    with Timers() as timers:
        timers.wrap(ILOStage, "forward", "generator forward")
        timers.wrap(operator, "forward", "operator")
        timers.wrap(Objective, "__call__", "losses")
        timers.wrap(torch.Tensor, "backward", "backward")
        timers.wrap(SearchStage, "_remember", "best iterate")
        timers.wrap(adam, "adam", "optimiser")
        timers.wrap(SearchStage, "variables", "copy of the variables")
        timers.wrap(Safeguard, "isolate", "what is not finite: gradients")
        timers.wrap(Safeguard, "settle", "what is not finite: undoing")
        timers.wrap(SearchStage, "project", "projection")
        total = fit_step(task, compiled=True)
    named = {name: median(times[2:]) for name, times in timers.seconds.items()}
    named["everything else"] = total - sum(named.values())
    named["whole step"] = total
    return named


def parts(generator: MobileStyleGAN, repeats: int) -> None:
    """Print what each part of a compiled bfloat16 step takes within trainer.fit, and what is left."""
    rows: dict[str, list[float]] = {}
    for split in SPLITS:
        for name, value in part_times(make_task(generator, split, steps=repeats + 11)).items():
            rows.setdefault(name, []).append(1000 * value)
    print("\n| milliseconds | " + " | ".join(f"split {s}" for s in SPLITS) + " |")
    print("|---|" + "---|" * len(SPLITS))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{v:.1f}" for v in values) + " |")


class Clock(pl.Callback):
    """Takes the time at the end of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: object) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())


def fit_step(task: InverseTask, compiled: bool) -> float:
    """Return the median time of a step of trainer.fit, after two."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(ILOInversion(task, compile=compiled))
    taken = [b - a for a, b in pairwise(clock.times)]
    return median(taken[2:])


def loop_step(task: InverseTask) -> float:
    """Return the median time of the same step in a loop without Lightning, after two."""
    stage = make_stage(task, compiled=True)
    made: Any = stage.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    times = []
    for i in range(task.schedule.total_steps):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = stage.training_step(None, i)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        stage.isolate()
        optimizer.step()
        scheduler.step()
        stage.settle()
        times.append(time.perf_counter() - began)
    return median(times[2:])


def lightning(generator: MobileStyleGAN, repeats: int) -> None:
    """Print what trainer.fit costs beside a loop of the same steps; the two take turns, four times."""
    print(
        "\n| split | trainer.fit | plain loop of the same steps | difference |\n|---|---|---|---|"
    )
    for split in SPLITS:
        ours, plain = [], []
        for _ in range(4):
            task = make_task(generator, split, steps=repeats + 11)
            ours.append(1000 * fit_step(task, compiled=True))
            plain.append(1000 * loop_step(task))
        a, b = median(ours), median(plain)
        print(
            f"| {split} | {a:.1f} ms | {b:.1f} ms | {a - b:.1f} ms, {1 - b / a:.1%} |", flush=True
        )


def batches(generator: MobileStyleGAN, repeats: int) -> None:
    """Print what an image costs by batch size, from split 4, and the memory of the process so far."""
    print(
        "\n| batch | step | an image-step | image-steps per second | peak memory |\n|---|---|---|---|---|"
    )
    for batch in BATCHES:
        took = fit_step(make_task(generator, 4, steps=repeats + 3, batch=batch), compiled=True)
        peak = (peak_memory(torch.device("cpu")) or 0) / 1e9
        print(
            f"| {batch} | {took:.3f} s | {took / batch:.3f} s | {batch / took:.1f} | {peak:.1f} GB |",
            flush=True,
        )


def generators(repeats: int) -> None:
    """Print forward and backward of other generators from the latent."""
    print(
        "\n| generator | eager, float32 | compiled, float32 | compiled, bfloat16 |\n|---|---|---|---|"
    )
    made: dict[str, tuple[SplitGenerator, str]] = {
        "StyleGAN2, 256 x 256": (StyleGAN2.random(256), "v"),
        "BigGAN-deep, 128 x 128": (BigGANDeep.random(BigGANConfig(), class_index=0), "z"),
    }
    for name, (generator, space) in made.items():
        operator = Mask.random(generator.image_shape, 0.1, 0, ["image"])
        schedule = Schedule(stages=(Stage(split=0, steps=9),), latent_space=space)
        task = InverseTask(
            generator, operator, torch.zeros(1, *generator.image_shape), schedule=schedule
        )
        times = []
        for compiled, bfloat16 in ((False, False), (True, False), (True, True)):
            stage = make_stage(task, compiled)
            times.append(seconds(lambda s=stage, b=bfloat16: step(s, b), repeats))  # type: ignore[misc]
        print(f"| {name} | " + " | ".join(f"{t:.3f} s" for t in times) + " |", flush=True)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--repeats", type=int, default=9)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    keep_freed_memory()
    generator = MobileStyleGAN.pretrained()
    generator.freeze()
    made = {
        "ceilings": lambda: ceilings(chosen.repeats),
        "steps": lambda: steps(generator, chosen.repeats),
        "parts": lambda: parts(generator, chosen.repeats),
        "lightning": lambda: lightning(generator, chosen.repeats),
        "batches": lambda: batches(generator, chosen.repeats),
        "generators": lambda: generators(chosen.repeats),
    }
    for table in chosen.tables:
        made[table]()


if __name__ == "__main__":
    main()
