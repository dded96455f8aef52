#!/usr/bin/env python
"""Time one step (forward and backward from split 3, batch 1, 1024 x 1024) uncompiled and compiled.

    python scripts/benchmark_step.py

Prints the table of docs/benchmarks.md: medians of nine steps after two, all in one run.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from ilo_pl import InverseTask, Mask, MobileStyleGAN, Schedule, Stage
from ilo_pl.acceleration import Synthesizer

SPLIT = 3


def step(run: Synthesizer, hidden: Tensor, styles: Tensor, mask: Tensor, bfloat16: bool) -> float:
    """Return the seconds that one forward and backward pass takes."""
    variables = [t.clone().requires_grad_() for t in (hidden, styles)]
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        state = run({"features": variables[0]}, variables[1], [None] * 10, SPLIT, 8)
    loss = (state["image"].float() * mask).square().sum() / (3 * mask.sum())
    loss.backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started


def main() -> None:
    """Time the four combinations."""
    generator = MobileStyleGAN.pretrained()
    operator = Mask.random(generator.image_shape, 0.1, 0, ["a"])
    schedule = Schedule(
        stages=(Stage(split=0, steps=1), Stage(split=SPLIT, steps=1, free_noises=0))
    )
    zeros = torch.zeros(1, *generator.image_shape)
    task = InverseTask(generator, operator, zeros, schedule=schedule)
    styles = generator.to_styles(torch.randn(1, 16, 512), "v")
    with torch.no_grad():
        hidden = generator.run({}, styles, [None] * 15, 0, SPLIT)["features"]
    styles = styles[:, generator.splits[SPLIT].first_slot :]
    print(f"{torch.get_num_threads()} threads\n| | median step | first step |\n|---|---|---|")
    for compiled in (False, True):
        for bfloat16 in (False, True):
            run = Synthesizer(task, compiled)
            times = [step(run, hidden, styles, operator.mask, bfloat16) for _ in range(11)]
            name = f"{'compiled' if compiled else 'eager'}, {'bfloat16' if bfloat16 else 'float32'}"
            print(
                f"| {name} | {statistics.median(times[2:]):.2f} s | {times[0]:.1f} s |", flush=True
            )


if __name__ == "__main__":
    main()
