#!/usr/bin/env python
"""What a step costs on this machine, GPU or CPU: one table, without a network, from the project's tree.

    python scripts/benchmark_device.py [--batches 1,4,16,64] [--splits 0,3,4,5] [--minutes 8] [--compile auto]
        [--generator mobilestylegan_ffhq|tiny] [--folder 256] [--json FILE]

First the machine's ceilings: GB/s of a copy, TFLOP/s of a matrix product in the precision of the search. Then, for each
task, split and number of images in a batch: image-steps a second, milliseconds a step, the share of the matrix
product's ceiling that the generator's multiplications reach, kernels launched and times the host waited in a step
(CUDA), and peak memory. Last, with --folder, seconds of `ilo-pl invert` over so many generated faces, beside what the
search alone would take. Rows that would begin after --minutes are left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))
from ilo_pl import InverseTask, Schedule, SplitGenerator, Stage, TinyGenerator, render
from ilo_pl.config.compose import load_config
from ilo_pl.generators import MobileStyleGAN
from ilo_pl.generators.point import Point
from ilo_pl.inversion.compilation import Synthesizer
from ilo_pl.inversion.stage import Engine, SearchStage
from ilo_pl.inversion.stage_spec import Radii
from ilo_pl.inversion.walk import Walk
from ilo_pl.io.images import to_bytes, to_picture
from ilo_pl.operators import ForwardOperator, Identity, Mask, PartialCirculant, Separable
from ilo_pl.runs.run import run

GENERATORS: dict[str, Callable[[], SplitGenerator]] = {
    "mobilestylegan_ffhq": MobileStyleGAN.pretrained,
    "tiny": lambda: TinyGenerator(0),
}
WARM, TIMED = 3, 10  # steps
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TYPE = torch.bfloat16


def operators(shape: tuple[int, int, int], count: int) -> dict[str, ForwardOperator]:
    """Return an operator for each task, for so many images."""
    ids = [str(i) for i in range(count)]
    return {
        "random inpainting": Mask.random(shape, 0.1, 0, ids),
        "super-resolution": Separable.bicubic(shape, 16 if shape[-1] > 32 else 4),
        "denoising": Identity(shape),
        "compressed sensing": PartialCirculant(shape, shape[0] * shape[1] * shape[2] // 10, 0),
    }


@dataclass(frozen=True)
class Row:
    """What was measured of one task, split and batch; see the head of the file."""

    task: str
    split: int
    batch: int
    image_steps: float
    milliseconds: float
    share: float
    kernels: int | None
    waits: int | None
    peak_gb: float | None


def seconds_of(work: Callable[[], object], times: int) -> float:
    """Return the seconds that some work takes, on average, once the device has done it."""
    _wait()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    _wait()
    return (time.perf_counter() - begun) / times


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def ceilings(dtype: torch.dtype = TYPE) -> tuple[float, float]:
    """Return bytes a second of a copy, read and written, and operations a second of a matrix product."""
    size = 2**28 if DEVICE.type == "cuda" else 2**25
    there = torch.empty(size, device=DEVICE)
    here = torch.ones(size, device=DEVICE)
    side = 8192 if DEVICE.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    for work in (lambda: there.copy_(here), lambda: a @ b):
        seconds_of(work, 2)
    copy = 2 * 4 * size / seconds_of(lambda: there.copy_(here), 5)
    return copy, 2 * side**3 / seconds_of(lambda: a @ b, 5)


def _schedule(generator: SplitGenerator, splits: tuple[int, ...]) -> Schedule:
    """Return stages at splits behind a first one, with the default radii."""
    radii = Radii(hidden=0.2, latents=0.2)
    noises = len(generator.noise_shapes)
    stages = [
        Stage(split=k, steps=1, free_noises=min(2 * k + 1, noises), radii=radii if k else Radii())
        for k in sorted({0, *splits})
    ]
    return Schedule(
        stages=(stages[0].model_copy(update={"steps": 0 if splits else 1}), *stages[1:])
    )


def _task(
    generator: SplitGenerator, operator: ForwardOperator, batch: int, splits: tuple[int, ...]
) -> InverseTask:
    measurements = torch.zeros(batch, *operator.measurement_shape)
    ids = [str(i) for i in range(batch)]
    schedule = _schedule(generator, splits)
    return InverseTask(
        generator, operator, measurements, schedule=schedule, ids=ids, batch_size=batch
    )


def synthesizer(generator: SplitGenerator, splits: tuple[int, ...], compile: Any) -> Synthesizer:
    """Return how all rows run the generator, so that no two compile the same."""
    return Synthesizer(_task(generator, Identity(generator.image_shape), 1, splits), compile)


def stage_of(
    generator: SplitGenerator,
    operator: ForwardOperator,
    split: int,
    batch: int,
    run: Synthesizer | None = None,
) -> SearchStage:
    """Return a stage at a split, past the one before it."""
    task = _task(generator, operator, batch, (split,) if split else ())
    engine = Engine(generator, task.schedule.latent_space, run)
    walk = Walk(task, task.source.load(range(batch)).to(DEVICE), engine)
    if split:
        walk.advance()
    return walk.stage


def stepper(stage: SearchStage) -> Callable[[], None]:
    """Return a function that takes a step as Lightning does."""
    optimizer: Any = stage.configure_optimizers()["optimizer"]
    taken = 0

    def step() -> None:
        nonlocal taken
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, TYPE):
            loss: Tensor = stage.training_step(None, taken)
        loss.backward()  # type: ignore[no-untyped-call]
        stage.isolate()
        optimizer.step()
        stage.settle()
        taken += 1

    return step


def launches(step: Callable[[], None]) -> tuple[int, int]:
    """Return how many kernels a step launches and how often the host waits for the device in it."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        step()
    names = [event.name for event in profiled.events() or []]
    kernels = sum(
        n in ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cudaGraphLaunch")
        for n in names
    )
    return kernels, sum(n == "aten::_local_scalar_dense" for n in names)


def measure(
    generator: SplitGenerator, run: Synthesizer, task: str, split: int, batch: int, ceiling: float
) -> Row:
    """Measure one row of the table."""
    operator = operators(generator.image_shape, batch)[task]
    stage = stage_of(generator, operator, split, batch)
    with FlopCounterMode(display=False) as counted:
        stepper(stage)()
    stage = stage_of(generator, operator, split, batch, run)
    step = stepper(stage)
    for _ in range(WARM):
        step()
    peak = kernels = waits = None
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(step, TIMED)
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
        kernels, waits = launches(step)
    share = counted.get_total_flops() / seconds / ceiling
    return Row(task, split, batch, batch / seconds, 1000 * seconds, share, kernels, waits, peak)


def folder_seconds(
    generator: SplitGenerator, name: str, count: int, batch: int
) -> tuple[float, int]:
    """Return seconds of a run over so many generated faces, all in all, and how many steps each had."""
    with tempfile.TemporaryDirectory() as place:
        faces = Path(place) / "faces"
        faces.mkdir()
        for i in range(count):
            drawn = torch.randn(
                1, generator.num_slots, 512, generator=torch.Generator().manual_seed(i)
            )
            normal = drawn[:, :1, : generator.latent_size("v")].to(DEVICE)
            image = render(generator, Point(0, {}, generator.from_normal(normal, "v"), {}), "v")
            to_picture(to_bytes(image)[0].cpu()).save(faces / f"{i:04d}.png")
        free = (
            []
            if name != "tiny"
            else ["method.splits=[0,1]", "method.free_noises=2", "method.steps=10"]
        )
        keys = [
            "task=random_inpainting",
            "method=ilo",
            f"generator={name}",
            f"batch_size={batch}",
            *free,
        ]
        config = load_config([*keys, f"input={faces}", f"output={place}/run"])
        begun = time.perf_counter()
        run(config, Console(quiet=True))
        return time.perf_counter() - begun, config.schedule.total_steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batches", default="1,4,16,64")
    parser.add_argument("--splits", default="0,3,4,5")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument(
        "--compile", default="auto", choices=("auto", "false", "true", "max-autotune")
    )
    parser.add_argument("--generator", default="mobilestylegan_ffhq", choices=tuple(GENERATORS))
    parser.add_argument(
        "--folder", type=int, default=0, help="images of the run over a folder; 0: none"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    compile = {"auto": True, "true": True, "false": False}.get(given.compile, given.compile)
    ends = time.monotonic() + 60 * given.minutes
    console = Console(width=140)
    copy, product = ceilings()
    what = (
        torch.cuda.get_device_name()
        if DEVICE.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    console.print(
        f"{DEVICE.type} ({what}), torch {torch.__version__}: copy {copy / 1e9:.0f} GB/s, product {product / 1e12:.2f} TFLOP/s"
    )
    generator = GENERATORS[given.generator]().to(DEVICE)
    rows, left = _rows(generator, given, compile, product, ends)
    console.print(table(rows))
    if left:
        console.print(f"Left out for lack of time: {left} rows.")
    if given.folder:
        batch = max(map(int, given.batches.split(",")))
        seconds, steps = folder_seconds(generator, given.generator, given.folder, batch)
        console.print(
            f"A folder of {given.folder}: {seconds:.0f} s, {given.folder * steps / seconds:.1f} image-steps a second, all in all."
        )
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows]))


def _rows(
    generator: SplitGenerator, given: argparse.Namespace, compile: Any, ceiling: float, ends: float
) -> tuple[list[Row], int]:
    """Measure what there is time for; return it and how many rows there was none for."""
    rows, left = [], 0
    splits, batches = (tuple(map(int, text.split(","))) for text in (given.splits, given.batches))
    faster = synthesizer(generator, tuple(k for k in splits if k), compile)
    for batch in batches:
        for split in splits:
            for task in operators(generator.image_shape, 1):
                if time.monotonic() > ends:
                    left += 1
                    continue
                try:
                    rows.append(measure(generator, faster, task, split, batch, ceiling))
                except torch.cuda.OutOfMemoryError:
                    left += 1
                    torch.cuda.empty_cache()
    return rows, left


def table(rows: list[Row]) -> Table:
    """Return what was measured as a table."""
    shown = Table(
        "task",
        "split",
        "batch",
        "image-steps/s",
        "ms a step",
        "of the product",
        "kernels",
        "waits",
        "peak GB",
    )
    for row in rows:
        cells = [f"{row.image_steps:.2f}", f"{row.milliseconds:.2f}", f"{row.share:.1%}"]
        rest = ["" if v is None else f"{v:.4g}" for v in (row.kernels, row.waits, row.peak_gb)]
        shown.add_row(row.task, str(row.split), str(row.batch), *cells, *rest)
    return shown


if __name__ == "__main__":
    main()
