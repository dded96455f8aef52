#!/usr/bin/env python
"""What an image of a folder costs: beside single runs, or the last images beside the first.

    python scripts/benchmark_folder.py FOLDER --count 20000 [--single 0] [key=value ...]
    python scripts/benchmark_folder.py FOLDER --photos PHOTOS --count 16 --single 4 [key=value ...]

Makes pictures of noise of the tiny generator's size, or takes photographs over and over (--photos), and runs `ilo-pl
invert` on the folder in a process of its own; further keys are its. Prints seconds an image of the first and of the last quarter,
by when batches were done and by what cores were given, the process's memory then, and seconds before the first batch and after the last; with --single also
seconds of so many runs on one image each, and how much faster the folder is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

SIZE = 32
COMMAND = [sys.executable, "-m", "ilo_pl", "invert"]
TINY = [
    "generator=tiny", "method.splits=[0,1]", "method.free_noises=2", "method.steps=3", "batch_size=64",
]  # fmt: skip
POLL_SECONDS = 0.2


def make_folder(folder: Path, count: int, photos: Path | None) -> None:
    """Write so many pictures."""
    folder.mkdir(parents=True)
    if photos is not None:
        taken = itertools.cycle(sorted(photos.glob("0*.png")))
        for i in range(count):
            shutil.copy(next(taken), folder / f"{i:05d}.png")
        return
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i:05d}.png")


@dataclass(frozen=True)
class Look:
    """What a process had used at a time: seconds of cores, and MB that it held."""

    at: float
    spent: float
    held: float


def look_at(process: int) -> Look:
    """Return what a process has used."""
    place = Path(f"/proc/{process}")
    lines = (place / "status").read_text().splitlines()
    held = next((float(line.split()[1]) / 1024 for line in lines if "VmRSS" in line), math.nan)
    ticks = sum(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:13]))
    return Look(time.time(), ticks / os.sysconf("SC_CLK_TCK"), held)


def watch(keys: Sequence[str], output: Path) -> tuple[float, list[Look]]:
    """Run the command; return its seconds, and what was seen of it meanwhile."""
    begun = time.time()
    process = subprocess.Popen([*COMMAND, *keys, f"output={output}"], stdout=subprocess.DEVNULL)
    seen = []
    while process.poll() is None:
        try:
            seen.append(look_at(process.pid))
        except OSError:
            break
        time.sleep(POLL_SECONDS)
    if process.wait():
        sys.exit(f"The run in {output} ended with status {process.returncode}.")
    return time.time() - begun, seen


def report_folder(count: int, batch: int, output: Path, seconds: float, seen: list[Look]) -> None:
    """Print what the images of the first and of the last quarter cost."""
    done = sorted(path.stat().st_mtime for path in (output / "state" / "units").iterdir())
    quarter = max(len(done) // 4, 1)
    for name, times in {"first": done[: quarter + 1], "last": done[-quarter - 1 :]}.items():
        images = (len(times) - 1) * batch
        looks = [one for one in seen if times[0] <= one.at <= times[-1]]
        print(
            f"{name} quarter: {1000 * (times[-1] - times[0]) / images:.1f} ms an image, of cores "
            f"{1000 * (looks[-1].spent - looks[0].spent) / images:.1f} ms; {median(one.held for one in looks):.0f} MB",
            flush=True,
        )
    begun = seen[0].at
    print(
        f"{count} images: {seconds:.0f} s, of cores {seen[-1].spent:.0f} s; {done[0] - begun:.1f} s to the end of the first "
        f"batch, {begun + seconds - done[-1]:.1f} s after the last; at most {max(one.held for one in seen):.0f} MB"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--single", type=int, default=0)
    parser.add_argument("keys", nargs="*")
    given = parser.parse_intermixed_args()
    images = given.folder / "images"
    if not images.exists():
        make_folder(images, given.count, given.photos)
    keys = [*([] if given.photos else TINY), *given.keys]
    batch = next(
        (int(k.partition("=")[2]) for k in reversed(keys) if k.startswith("batch_size=")), 1
    )
    singles = []
    for path in sorted(images.iterdir())[: given.single]:
        seconds, _ = watch([f"input={path}", *keys], given.folder / f"single_{path.stem}")
        singles.append(seconds)
    output = given.folder / "all"
    seconds, seen = watch([f"input={images}", *keys], output)
    report_folder(given.count, batch, output, seconds, seen)
    if singles:
        alone = median(singles)
        print(
            f"single runs: {', '.join(f'{s:.1f}' for s in singles)} s; the folder: {seconds / given.count:.1f} s an image, "
            f"{alone * given.count / seconds:.2f} times faster"
        )


if __name__ == "__main__":
    main()
