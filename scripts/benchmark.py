#!/usr/bin/env python
"""The published code as a plain eager loop against ilo_pl, in one run, on the same measurements.

    python scripts/benchmark.py [--photos FILE ...] [--size 256] [--task inpainting|super_resolution|compressed_sensing]
        [--runs 1] [--steps 50] [--precision auto] [--clock wall|cpu] [--json FILE]

Prints what the machine copies and multiplies; then, for the published code as it behaves (batch 1, float32, no
Lightning, tests/oracle.py) and for ilo_official and ilo through trainer.fit, of every image and run: PSNR, seconds a
step, seconds until the published loop's final PSNR and until ilo's, without and with compilation; last, medians.
The truth is looked at between steps, with the clock stopped, and by nobody else. Without --photos the image is a
face drawn from z. On a machine that others use as well, --clock cpu with OMP_NUM_THREADS=1 counts the seconds that the
process was given; compilation is counted by the wall in any case. To measure what a processor without AVX-512 and
bfloat16 would do: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2, and a CXX that adds -march=x86-64-v3.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from benchmark_device import ceilings
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
from ilo_pl import (
    ILOInversion,
    InverseTask,
    Schedule,
    SplitGenerator,
    load_image,
    load_method,
    seeding,
)
from ilo_pl.config.trainer import TrainerConfig
from ilo_pl.generators import MobileStyleGAN
from ilo_pl.generators.resized import Resized
from ilo_pl.inversion.compilation import Synthesizer
from ilo_pl.losses.perceptual import load_lpips, resize_for_lpips
from ilo_pl.operators import ForwardOperator, Mask, PartialCirculant, Separable
from ilo_pl.runs.trainer import choose_precision
from tests.oracle import Published, published_loop

OURS = ("ilo_official", "ilo")
PUBLISHED = "published loop, float32"


def make_operator(task: str, shape: tuple[int, int, int], image_id: str) -> ForwardOperator:
    """Return the operator of a task at the level the paper's claims are about."""
    if task == "super_resolution":
        return Separable.bicubic(shape, shape[-1] // 64)
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

    image: str
    run: int
    method: str
    truth: Tensor = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    compiling: float = 0.0
    psnr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    spent: float = 0.0
    since: float = 0.0

    def watch(self, step: int, image: Tensor) -> None:
        """Record one step's image."""
        self.spent += self.clock() - self.since
        error = (image.float().clamp(-1, 1) - self.truth).square().mean() / 4
        self.psnr.append(float(-10 * torch.log10(error)))
        self.seconds.append(self.spent)
        self.since = self.clock()

    def reach(self, psnr: float) -> float | None:
        """Return seconds until a PSNR, without compilation, or None if it never came."""
        pairs = zip(self.psnr, self.seconds, strict=True)
        return next((seconds for value, seconds in pairs if value >= psnr), None)

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(b - a for a, b in zip(self.seconds, self.seconds[1:-1], strict=False))


class Problem:
    """One image and what was measured of it.

    Args:
        generator: the generator.
        truth: the image ``(1, 3, H, W)``.
        name: its id.
        task: the task.
        run: number of the run, which seeds the start.
        steps: steps of each stage; by default as many as a method has.
    """

    def __init__(
        self,
        generator: SplitGenerator,
        truth: Tensor,
        name: str,
        task: str,
        run: int,
        steps: int | None,
    ) -> None:
        self.generator, self.truth, self.name, self.run = generator, truth, name, run
        self.steps = steps
        self.operator = make_operator(task, generator.image_shape, name)
        self.blind = len(self.operator.measurement_shape) != 3

    def schedule(self, method: str, steps: int | None = None) -> Schedule:
        """Return a method's schedule."""
        steps = steps or self.steps
        keys: dict[str, Any] = {"steps": steps} if steps else {}
        if self.blind and method == "ilo_official":
            # Random projections are no pictures, which LPIPS could compare.
            keys["losses"] = {"mse": 1.0, "geocross": 0.01}
        return load_method(method, **keys)

    def task(self, method: str, steps: int | None = None) -> InverseTask:
        """Return the task of a method."""
        return InverseTask(
            self.generator,
            self.operator,
            self.operator(self.truth),
            schedule=self.schedule(method, steps),
            ids=[self.name],
            seed=self.run,
            # The published code returns the generator's own picture.
            consistency="auto" if method == "ilo" else False,
        )

    def run_published(self, curve: Curve) -> None:
        """Run the published loop, with the steps of ``ilo_official``."""
        generator, stages = self.generator, self.schedule("ilo_official").stages
        shape = generator.num_slots, generator.latent_dim
        normal = seeding.normal(shape, self.run, [self.name], "latents")
        curve.since = curve.clock()
        image = published_loop(
            generator,
            self.operator,
            self.operator(self.truth),
            generator.from_normal(normal, "v"),
            [stage.split for stage in stages],
            [stage.free_noises for stage in stages],
            steps=[stage.steps for stage in stages],
            observed=float(self.operator.observed()[0]),
            lr=0.1,
            noises={
                i: seeding.normal(shape, self.run, [self.name], "noises", i)
                for i, shape in enumerate(generator.noise_shapes)
            },
            what=what_is_published(self.operator),
            watch=curve.watch,
        )
        curve.watch(len(curve.psnr), image)

    def run_ours(self, curve: Curve, precision: Any, compiled: Synthesizer | None) -> None:
        """Run trainer.fit, with segments that are compiled already."""
        inversion = ILOInversion(self.task(curve.method), compile=False)
        if compiled is not None:
            inversion._synthesizer = compiled
        curve.since = curve.clock()
        fit(inversion, precision, [Watch(curve)])
        curve.watch(len(curve.psnr), next(iter(inversion.results.values())).image[None])

    def compile(self, method: str, precision: Any) -> tuple[Synthesizer, float]:
        """Take a step of each stage; return the compiled segments and the seconds that took, steps included."""
        began = time.perf_counter()
        inversion = ILOInversion(self.task(method, steps=1), compile=True)
        fit(inversion, precision, [])
        return inversion._synthesizer, time.perf_counter() - began


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


def fit(inversion: ILOInversion, precision: Any, callbacks: list[pl.Callback]) -> None:
    """Run the search."""
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(inversion)


def images(options: argparse.Namespace) -> tuple[SplitGenerator, dict[str, Tensor]]:
    """Return the generator and the images, ``(1, 3, H, W)`` each, by name."""
    generator: SplitGenerator = MobileStyleGAN.pretrained()
    if options.size != generator.image_shape[-1]:
        generator = Resized(generator, options.size)
        generator.freeze()
    if options.photos:
        return generator, {p.stem: load_image(p).rgb[None] for p in options.photos}
    z = seeding.normal((1, generator.latent_dim), options.seed, ["face"], "truth")
    with torch.no_grad():
        styles = generator.to_styles(z, "z").expand(-1, generator.num_slots, -1)
        truth = generator.run({}, styles, [None] * len(generator.noise_shapes))["image"]
    return generator, {"face": truth.clamp(-1, 1)}


def measure(options: argparse.Namespace, precision: Any) -> list[Curve]:
    """Run everything; the published loop first, before this process keeps freed memory."""
    generator, truths = images(options)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    problems = [
        Problem(generator, truth, name, options.task, run, options.steps)
        for run in range(options.runs)
        for name, truth in truths.items()
    ]
    curves = []

    def begin(problem: Problem, method: str, compiling: float = 0.0) -> Curve:
        curves.append(
            Curve(problem.name, problem.run, method, problem.truth, clock, compiling=compiling)
        )
        return curves[-1]

    for problem in problems:
        problem.run_published(begin(problem, PUBLISHED))
        show(curves[-1:])
    for method in OURS:
        compiled, seconds = problems[0].compile(method, precision)
        for problem in problems:
            problem.run_ours(begin(problem, method, seconds), precision, compiled)
            show(curves[-1:])
    return curves


def show(curves: Sequence[Curve]) -> None:
    """Say what was found, as it comes."""
    for c in curves:
        print(
            f"{c.image} run {c.run}, {c.method}: {c.psnr[-1]:.2f} dB, step {c.step:.3f} s, all {c.seconds[-1]:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", help="pictures of the size given")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1, help="seed of the face without --photos")
    parser.add_argument(
        "--task", default="inpainting", choices=("inpainting", "super_resolution", "compressed_sensing")
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=1, help="each with another start")
    parser.add_argument("--steps", type=int, help="of each stage; by default the method's own")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    precision = choose_precision(TrainerConfig(precision=options.precision))
    copy, product = ceilings(torch.float32 if precision == "32-true" else torch.bfloat16)
    print(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"{precision}: copy {copy / 1e9:.0f} GB/s, product {product / 1e12:.2f} TFLOP/s",
        flush=True,
    )
    curves = measure(options, precision)
    report(curves)
    if options.json:
        rows = [{k: v for k, v in vars(c).items() if k not in ("truth", "clock")} for c in curves]
        options.json.write_text(json.dumps(rows))


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are NaN where a PSNR was never reached."""

    psnr: float
    step: float
    faster: float
    to_published: float
    sooner: float
    compiled: float
    sooner_compiled: float
    to_ilo: float


def row(curve: Curve, published: Curve, ilo: Curve) -> Row:
    """Return what is said of a curve beside those of the same image and run."""
    nan, whole = math.nan, published.reach(published.psnr[-1]) or math.nan
    reached = curve.reach(published.psnr[-1])
    seconds = nan if reached is None else reached
    with_it = seconds + curve.compiling
    step = curve.step
    to_ilo = curve.reach(ilo.psnr[-1])
    return Row(
        curve.psnr[-1], step, published.step / step, seconds, whole / seconds,
        with_it, whole / with_it, nan if to_ilo is None else to_ilo,
    )  # fmt: skip


def report(curves: Sequence[Curve]) -> None:
    """Print one row a curve, and medians over all images and runs."""
    print(
        "| image | run | method | PSNR (dB) | step (s) | faster | to the published PSNR (s) | sooner "
        "| with compilation (s) | sooner | to ilo's PSNR (s) |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    table: dict[str, list[Row]] = {}
    for curve in curves:
        same = {c.method: c for c in curves if (c.image, c.run) == (curve.image, curve.run)}
        found = row(curve, same[PUBLISHED], same["ilo"])
        table.setdefault(curve.method, []).append(found)
        print(f"| {curve.image} | {curve.run} | {curve.method} | {_cells(asdict(found))} |")
    for method, rows in table.items():
        # Never is later than any time, so that a median of mostly never is never.
        later = dict.fromkeys(("to_published", "compiled", "to_ilo"), math.inf)
        middle = {
            name: median(
                later.get(name, 0.0) if math.isnan(value) else value
                for value in (asdict(r)[name] for r in rows)
            )
            for name in asdict(rows[0])
        }
        print(f"| median | | {method} | {_cells(middle)} |")


def _cells(values: dict[str, float]) -> str:
    digits = {"psnr": 2, "step": 3, "to_published": 0, "compiled": 0, "to_ilo": 0}
    return " | ".join(
        f"{v:.{digits.get(k, 1)}f}" if math.isfinite(v) and v > 0 else "never"
        for k, v in values.items()
    )


if __name__ == "__main__":
    main()
