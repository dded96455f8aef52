#!/usr/bin/env python
"""Where the time of a gradient step goes, and how far it is from what the machine can do.

    python scripts/benchmark_parts.py [ceilings] [steps] [parts] [batches] [--repeats 9]

All in one process, on the 1024 x 1024 generator, inpainting with a tenth of the pixels: what the machine copies
and multiplies at best; forward and backward from each split, eager and compiled, in float32 and bfloat16; the
parts of a step of ``trainer.fit``; seconds an image-step by batch size. Medians, as Markdown tables. Run it on an
idle machine.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from statistics import median

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from ilo_pl import ILOInversion, InverseTask, Mask, MobileStyleGAN, Schedule, Stage
from ilo_pl.acceleration import Synthesizer
from ilo_pl.allocator import keep_freed_memory
from ilo_pl.point import Point, carry
from ilo_pl.schedule import Radii
from ilo_pl.stage import Engine, ILOStage
from ilo_pl.walk import Walk

SPLITS = (0, 3, 4, 5)
BATCHES = (1, 2, 4, 8)
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
    """Return an inpainting task whose one stage starts at a split."""
    ids = [f"image{i}" for i in range(batch)]
    operator = Mask.random(generator.image_shape, 0.1, 0, ids)
    latents = torch.zeros(batch, generator.num_slots, generator.latent_dim)
    start = carry(generator, Point(0, {}, latents, {}), "v", split)
    stage = Stage(split=split, steps=steps, free_noises=9, radii=BALLS)
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


def part_times(task: InverseTask, repeats: int) -> dict[str, float]:
    """Return seconds of each part of a compiled bfloat16 step."""
    stage = make_stage(task, compiled=True)
    optimizer = stage.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    operator = task.source.load([0]).operator
    worst = torch.zeros_like(stage.best_loss)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return stage.forward()

    def settle() -> None:
        with torch.no_grad():
            for value in stage.point().hidden.values():
                value.add_(1)  # far outside the ball, where projecting is work
        stage.settle(before)

    image = forward().detach().float()
    whole = seconds(lambda: step(stage, True), repeats)
    generate = seconds(forward, repeats)
    measure = seconds(lambda: operator(image), repeats)
    judge = seconds(lambda: stage._objective(image, stage.latents, 0), repeats)
    remember = seconds(lambda: stage._remember(worst), repeats)
    update = seconds(optimizer.step, repeats)
    before = stage.variables()
    return {
        "generator forward": generate,
        "operator": measure,
        "losses": judge - measure,
        "backward": whole - generate - judge - remember,
        "best iterate": remember,
        "optimiser": update,
        "copy of the variables": seconds(stage.variables, repeats),
        "what is not finite": seconds(lambda: stage.guard.isolate(stage.parameters()), repeats),
        "undoing faults, projection": seconds(settle, repeats),
    }


def parts(generator: MobileStyleGAN, repeats: int) -> None:
    """Print what each part of a compiled bfloat16 step takes, and what Lightning adds."""
    rows: dict[str, list[float]] = {}
    for split in SPLITS:
        named = part_times(make_task(generator, split), repeats)
        total = fit_step(make_task(generator, split, steps=repeats + 3), compiled=True)
        named["Lightning, callbacks, logging"] = total - sum(named.values())
        named["whole step of trainer.fit"] = total
        for name, value in named.items():
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
    taken = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    return median(taken[2:])


def batches(generator: MobileStyleGAN, repeats: int) -> None:
    """Print what an image costs by batch size, from split 4."""
    print("\n| batch | step | an image-step | image-steps per second |\n|---|---|---|---|")
    for batch in BATCHES:
        took = fit_step(make_task(generator, 4, steps=repeats + 3, batch=batch), compiled=True)
        print(f"| {batch} | {took:.3f} s | {took / batch:.3f} s | {batch / took:.1f} |", flush=True)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=["ceilings", "steps", "parts", "batches"])
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
        "batches": lambda: batches(generator, chosen.repeats),
    }
    for table in chosen.tables:
        made[table]()


if __name__ == "__main__":
    main()
