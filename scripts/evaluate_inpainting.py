#!/usr/bin/env python
"""Random inpainting at 10 % on the portrait and on four generated faces: CSGM against ILO, equal steps.

    python scripts/evaluate_inpainting.py OUTPUT_FOLDER [key=value ...]

The faces are drawn from z by seeds 1 to 4, which no default was tuned on. Takes about 10 minutes on two CPU
cores and prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from ilo_pl import MobileStyleGAN
from ilo_pl.config import load_config
from ilo_pl.demo import portrait
from ilo_pl.io import to_bytes
from ilo_pl.metrics import Scores
from ilo_pl.runner import run

SEEDS = (1, 2, 3, 4)
METHODS = ("csgm", "ilo")


def write_images(folder: Path) -> None:
    """Write the portrait and the generated faces."""
    folder.mkdir(parents=True)
    shutil.copy(portrait(), folder / "portrait.png")
    generator = MobileStyleGAN.pretrained()
    for seed in SEEDS:
        z = torch.randn(1, 512, generator=torch.Generator().manual_seed(seed))
        image = to_bytes(generator(z)[0]).permute(1, 2, 0).numpy()
        Image.fromarray(image).save(folder / f"face{seed}.png")


def main() -> None:
    """Run both methods and print one row an image."""
    output, overrides = Path(sys.argv[1]), sys.argv[2:]
    images = output / "images"
    write_images(images)
    results: dict[str, list[Scores]] = {}
    for method in METHODS:
        started = time.monotonic()
        keys = [f"input={images}", f"reference={images}", f"output={output / method}"]
        config = load_config([*keys, f"method={method}", "task=random_inpainting", *overrides])
        scores = run(config, Console(stderr=True), method)
        results[method] = [score for score in scores if isinstance(score, Scores)]
        print(f"{method}: {(time.monotonic() - started) / len(results[method]):.0f} s an image")
    print("| image | CSGM PSNR | ILO PSNR | gain (dB) | CSGM LPIPS | ILO LPIPS |")
    print("|---|---|---|---|---|---|")
    gains = []
    for csgm, ilo in zip(*results.values(), strict=True):
        gains.append(ilo.psnr - csgm.psnr)
        print(
            f"| {csgm.id} | {csgm.psnr:.2f} | {ilo.psnr:.2f} | {gains[-1]:.2f} "
            f"| {csgm.lpips:.3f} | {ilo.lpips:.3f} |"
        )
    print(f"median gain {statistics.median(gains):.2f} dB, smallest {min(gains):.2f} dB")


if __name__ == "__main__":
    main()
