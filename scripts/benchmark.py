#!/usr/bin/env python
"""The published algorithm as a plain eager loop against ilo_pl, in one run, on the same measurements.

    python scripts/benchmark.py [--steps 50] [--task inpainting|super_resolution|compressed_sensing]
        [--seed 1] [--precision bf16-mixed] [--json FILE]

Prints, for the plain loop (batch 1, float32, tests/oracle.py) and for ilo_official and ilo through
trainer.fit: PSNR after the same steps, seconds a step, seconds to the plain loop's final PSNR without and with
compilation, and peak memory. The image is a face drawn from z; its truth is looked at between steps, with the
clock stopped, and by nobody else. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
from ilo_pl import ILOInversion, InverseTask, MobileStyleGAN, load_method, seeding
from ilo_pl.callbacks.events import peak_memory
from ilo_pl.losses.perceptual import load_lpips, resize_for_lpips
from ilo_pl.operators import ForwardOperator, Mask, PartialCirculant, Separable
from tests.oracle import Published, published_loop

SPLITS, FREE = (0, 1, 2, 3), (5, 7, 9, 11)


def make_operator(task: str, shape: tuple[int, int, int], image_id: str) -> ForwardOperator:
    """Return the operator of a task at the level the paper's claims are about."""
    if task == "super_resolution":
        return Separable.bicubic(shape, 16)
    if task == "compressed_sensing":
        return PartialCirculant(shape, round(0.1 * math.prod(shape)), 0)
    return Mask.random(shape, 0.1, 0, [image_id])


def what_is_published(operator: ForwardOperator) -> Published:
    """Return the published code's ways, with LPIPS where the measurements are pictures."""
    picture = len(operator.measurement_shape) == 3
    lpips = load_lpips("alex")

    def perceptual(predicted: Tensor, measured: Tensor) -> Tensor:
        distance: Tensor = lpips(*(resize_for_lpips(x) for x in (predicted, measured)))
        return distance

    return Published(
        keep_skip=False,
        spheres=True,
        last=True,
        geocross=0.01,
        perceptual=perceptual if picture else None,
    )


@dataclass
class Curve:
    """PSNR against seconds, the clock stopped while it is computed."""

    name: str
    truth: Tensor = field(repr=False)
    psnr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    spent: float = 0.0
    since: float = field(default_factory=time.perf_counter)
    peak_gb: float = 0.0

    def watch(self, step: int, image: Tensor) -> None:
        """Record one step's image."""
        self.spent += time.perf_counter() - self.since
        error = (image.float().clamp(-1, 1) - self.truth).square().mean() / 4
        self.psnr.append(float(-10 * torch.log10(error)))
        self.seconds.append(self.spent)
        self.since = time.perf_counter()

    def finish(self, image: Tensor) -> None:
        """Record the result."""
        self.watch(len(self.psnr), image)
        self.peak_gb = (peak_memory(torch.device("cpu")) or 0) / 1e9

    def reach(self, psnr: float, setup: float) -> tuple[float, float] | None:
        """Return seconds until a PSNR without and with ``setup``, or None if it never came."""
        for value, seconds in zip(self.psnr, self.seconds, strict=True):
            if value >= psnr:
                return seconds - setup, seconds
        return None

    @property
    def setup(self) -> float:
        """Seconds of the steps that were slow because something was compiled, beyond a usual step."""
        steps = [b - a for a, b in zip(self.seconds, self.seconds[1:], strict=False)]
        usual = sorted(steps)[len(steps) // 2]
        return sum(s - usual for s in steps if s > 4 * usual) + max(0.0, self.seconds[0] - usual)

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        steps = sorted(b - a for a, b in zip(self.seconds, self.seconds[1:], strict=False))
        return steps[len(steps) // 2]


def run_plain(
    generator: MobileStyleGAN, operator: ForwardOperator, truth: Tensor, name: str, steps: int
) -> Curve:
    """Run the published loop."""
    curve = Curve("plain eager loop, float32", truth)
    normal = seeding.normal((generator.num_slots, generator.latent_dim), 0, [name], "latents")
    image = published_loop(
        generator,
        operator,
        operator(truth),
        generator.from_normal(normal, "v"),
        SPLITS,
        FREE,
        steps=[steps] * len(SPLITS),
        observed=float(operator.observed()[0]),
        lr=0.1,
        noises={
            i: seeding.normal(shape, 0, [name], "noises", i)
            for i, shape in enumerate(generator.noise_shapes)
        },
        what=what_is_published(operator),
        watch=curve.watch,
    )
    curve.finish(image)
    return curve


class Watch(pl.Callback):
    """Looks at the image of every step as it is generated."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self._handle: Any = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Put a hook on the stage that runs."""
        curve = self.curve

        def look(module: Any, inputs: Any, image: Tensor) -> None:
            curve.watch(0, image.detach())

        self._handle = pl_module.stage.register_forward_hook(look)

    def on_train_batch_end(self, *args: Any) -> None:
        """Take it off again."""
        self._handle.remove()


def run_ours(
    task: InverseTask, curve: Curve, precision: Any, compile: bool | str = "auto"
) -> Curve:
    """Run trainer.fit."""
    inversion = ILOInversion(task, compile=compile)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(curve)],
    )
    curve.since = time.perf_counter()
    trainer.fit(inversion)
    curve.finish(next(iter(inversion.results.values())).image[None])
    return curve


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50, help="steps of each of the four stages")
    parser.add_argument("--task", default="inpainting")
    parser.add_argument("--seed", type=int, default=1, help="z of the face")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    generator = MobileStyleGAN.pretrained()
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(options.seed))
    truth, name = generator(z).clamp(-1, 1), f"face{options.seed}"
    operator = make_operator(options.task, generator.image_shape, name)

    def task(method: str) -> InverseTask:
        # Random projections are no pictures, which LPIPS could compare.
        blind = options.task == "compressed_sensing" and method == "ilo_official"
        losses: dict[str, Any] = {"losses": {"mse": 1.0, "geocross": 0.01}} if blind else {}
        schedule = load_method(method, steps=options.steps, **losses)
        return InverseTask(generator, operator, operator(truth), schedule=schedule, ids=[name])

    plain = run_plain(generator, operator, truth, name, options.steps)
    curves = [plain]
    for method in ("ilo_official", "ilo"):
        label = f"{method}, {options.precision}"
        curves.append(run_ours(task(method), Curve(label, truth), options.precision))
    report(curves, options.json)


def report(curves: list[Curve], path: Path | None) -> None:
    """Print one row a curve."""
    plain = curves[0]
    show: Callable[[float | None], str] = lambda s: "never" if s is None else f"{s:.1f} s"  # noqa: E731
    print("| | PSNR (dB) | step | ratio | to the plain PSNR | with compilation | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for curve in curves:
        reached = curve.reach(plain.psnr[-1], curve.setup if curve is not plain else 0.0)
        without, including = reached or (None, None)
        print(
            f"| {curve.name} | {curve.psnr[-1]:.2f} | {curve.step:.3f} s | {plain.step / curve.step:.1f} "
            f"| {show(without)} | {show(including)} | {curve.peak_gb:.1f} GB |"
        )
    if path is not None:
        rows = [{k: v for k, v in asdict(c).items() if k != "truth"} for c in curves]
        path.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
