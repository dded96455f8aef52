#!/usr/bin/env python
"""Frames of a video, each from scratch against each from the solution of the one before.

    python scripts/benchmark_video.py FOLDER [KEY=VALUE ...]

The clip is the shipped portrait, panned and zoomed over ten frames; a tenth of the pixels of each frame is
given. Further keys are of ``ilo-pl invert``. Prints a table in Markdown.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from statistics import median

from PIL import Image
from rich.console import Console
from torch import Tensor

from ilo_pl.config.compose import load_config
from ilo_pl.evaluation.metrics import Scores
from ilo_pl.io.images import load_image
from ilo_pl.io.tables import read_table
from ilo_pl.paper.demo import portrait
from ilo_pl.runs.run import run

FRAMES = 10
SIZE = 1024
GREY_LEVELS = 127.5


def make_clip(folder: Path) -> None:
    """Write the frames: 3 pixels to the right, 1 down and 0.4 % nearer each time."""
    folder.mkdir(parents=True)
    with Image.open(portrait()) as file:
        picture = file.convert("RGB")
    for i in range(FRAMES):
        side = SIZE / (1.06 + 0.004 * i)
        left, top = (SIZE - side) / 2 + 3 * (i - FRAMES / 2), (SIZE - side) / 2 + i - FRAMES / 2
        box = (left, top, left + side, top + side)
        frame = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        frame.save(folder / f"frame{i}.png")


def load(folder: Path) -> list[Tensor]:
    """Return the frames of a folder in grey levels."""
    return [load_image(path).rgb * GREY_LEVELS for path in sorted(folder.iterdir())]


def flicker(frames: list[Tensor], truth: list[Tensor] | None = None) -> float:
    """Return the mean absolute change from frame to frame, less that of the truth if it is given."""
    changes = [b - a for a, b in itertools.pairwise(frames)]
    if truth is not None:
        real = [b - a for a, b in itertools.pairwise(truth)]
        changes = [c - r for c, r in zip(changes, real, strict=True)]
    return sum(float(c.abs().mean()) for c in changes) / len(changes)


def main() -> None:
    """Run both and print the table."""
    folder, more = Path(sys.argv[1]), sys.argv[2:]
    clip = folder / "clip"
    if not clip.exists():
        make_clip(clip)
    truth = load(clip)
    print(f"truth: change from frame to frame {flicker(truth):.2f} grey levels")
    print("| | seconds | seconds a frame | PSNR (dB) | LPIPS | change | change in error |")
    print("|---|---|---|---|---|---|---|")
    for follow in ("none", "frames"):
        output = folder / follow
        own = [key for key in more if follow == "frames" or not key.startswith("follow.")]
        keys = [f"input={clip}", f"reference={clip}", f"output={output}", f"follow={follow}", *own]
        scores = run(load_config(keys), Console(stderr=True), follow)
        seconds = [float(r["seconds"]) for r in read_table(output / "seconds.csv")]
        psnr = [s.psnr for s in scores if isinstance(s, Scores)]
        lpips = [s.lpips for s in scores if isinstance(s, Scores)]
        frames = load(output / "reconstructions")
        print(
            f"| {follow} | {sum(seconds):.0f} | {median(seconds):.1f} | {median(psnr):.2f} "
            f"({min(psnr):.2f}) | {median(lpips):.4f} | {flicker(frames):.2f} | "
            f"{flicker(frames, truth):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
