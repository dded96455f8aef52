#!/usr/bin/env python
"""ILO beside the simplest methods that a user would try first, on a folder of photographs.

    python scripts/benchmark_photos.py PHOTOS OUTPUT [--size 256] [--methods ilo,csgm] [--cells NAME;...] [key=value ...]

Every cell is a run of `ilo-pl invert` on all photographs; what is there already is not run again. Prints, for each
cell and method, medians (worst) of PSNR and LPIPS, seconds an image, and how the method ilo stands against the
best of the others: by PSNR, and in how many images it is worse in both measures than one of them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ilo_pl.config.compose import is_outside, load_config
from ilo_pl.io.tables import read_table
from ilo_pl.runs.run import run

MASKS = ("interpolation", "gaussian_filling", "wavelet", "tv")
SMALL = ("bicubic", "lanczos", "wavelet", "tv")
NOISE = ("bm3d", "wavelet", "tv")
LINEAR = ("wavelet", "tv")
# Lengths are those at 256 pixels; they grow with the size.
CELLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "random inpainting 50 %": ("task=random_inpainting operator.fraction=0.5", MASKS),
    "random inpainting 10 %": ("task=random_inpainting operator.fraction=0.1", MASKS),
    "random inpainting 1 %": ("task=random_inpainting operator.fraction=0.01", MASKS),
    "box": ("task=inpainting operator.box=[{x0},{y0},{x1},{y1}]", ("biharmonic", "gaussian_filling", "tv")),
    "super-resolution 4x": ("task=super_resolution operator.factor=4", SMALL),
    "super-resolution 8x": ("task=super_resolution operator.factor=8", SMALL),
    "super-resolution 16x": ("task=super_resolution operator.factor=16", SMALL),
    "denoising 15": ("task=denoising noise.sigma=15", NOISE),
    "denoising 25": ("task=denoising noise.sigma=25", NOISE),
    "denoising 50": ("task=denoising noise.sigma=50", NOISE),
    "deblurring": ("task=deblurring operator.sigma={blur}", LINEAR),
    "compressed sensing 25 %": ("task=compressed_sensing operator.fraction=0.25", LINEAR),
    "compressed sensing 10 %": ("task=compressed_sensing operator.fraction=0.1", LINEAR),
    "super-resolution 4x, noise 0.05": (
        "task=super_resolution operator.factor=4 noise=gaussian noise.sigma=12.75", LINEAR,
    ),
    "deblurring, noise 0.05": (
        "task=deblurring operator.sigma={blur} noise=gaussian noise.sigma=12.75", LINEAR,
    ),
}  # fmt: skip
BOX = (83, 160, 175, 208)  # the mouth of an aligned face
BLUR = 3.0


def measure(cell: str, method: str, given: argparse.Namespace) -> list[dict[str, str]]:
    """Run a method on all photographs, unless it was run before; return its scores and seconds by image."""
    scale = given.size / 256
    x0, y0, x1, y1 = (round(scale * v) for v in BOX)
    task = CELLS[cell][0].format(x0=x0, y0=y0, x1=x1, y1=y1, blur=BLUR * scale)
    folder = given.output / cell.replace(" ", "_").replace(",", "").replace("%", "percent") / method
    if not (folder / "metrics.csv").exists():
        outside = is_outside(method)
        keys = [] if outside else [f"batch_size={given.batch_size}", *given.keys]
        size = [] if given.size == 1024 else [f"generator.size={given.size}"]
        paths = [f"input={given.photos}", f"reference={given.photos}", f"output={folder}"]
        run(
            load_config([*task.split(), f"method={method}", *size, *paths, *keys]),
            Console(quiet=True),
        )
    seconds = {row["id"]: row["seconds"] for row in read_table(folder / "seconds.csv")}
    rows = read_table(folder / "metrics.csv")
    return [{**row, "seconds": seconds.get(row["id"], "nan")} for row in rows]


def column(rows: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """Return a column as numbers."""
    return [float(row[name]) for row in rows]


def verdict(found: Mapping[str, list[dict[str, str]]]) -> str:
    """Say how ilo stands against the baselines, by medians, and where it is worse in both measures."""
    ours = found["ilo"]
    others = {m: rows for m, rows in found.items() if is_outside(m)}
    best = max(others, key=lambda m: statistics.median(column(others[m], "psnr")))
    gain = statistics.median(column(ours, "psnr")) - statistics.median(column(others[best], "psnr"))
    share = statistics.median(column(ours, "lpips")) / statistics.median(
        column(others[best], "lpips")
    )
    worse = [
        row["id"]
        for i, row in enumerate(ours)
        if any(
            float(rows[i]["psnr"]) > float(row["psnr"])
            and float(rows[i]["lpips"]) < float(row["lpips"])
            for rows in others.values()
        )
    ]
    reached = gain >= 0.5 or (gain >= 0 and share <= 0.5)
    bad = f"; worse in both on {', '.join(worse)}" if worse else ""
    return (
        f"{'yes' if reached else 'no'}: {gain:+.2f} dB and {share:.2f} of the LPIPS of {best}{bad}"
    )


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--methods", default="ilo,csgm")
    parser.add_argument("--cells", default="")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("keys", nargs="*")
    given = parser.parse_args()
    print(
        "| cell | method | PSNR (dB) | LPIPS | measured error | seconds |\n|---|---|---|---|---|---|"
    )
    verdicts = []
    for cell in [c for c in CELLS if not given.cells or c in given.cells.split(";")]:
        found = {m: measure(cell, m, given) for m in (*CELLS[cell][1], *given.methods.split(","))}
        for method, rows in found.items():
            psnr, lpips, seconds = (column(rows, n) for n in ("psnr", "lpips", "seconds"))
            errors = column(rows, "measured_error") if "measured_error" in rows[0] else []
            print(
                f"| {cell} | {method} | {statistics.median(psnr):.2f} ({min(psnr):.2f}) "
                f"| {statistics.median(lpips):.3f} ({max(lpips):.3f}) "
                f"| {f'{max(errors):.2f}' if errors else ''} | {statistics.median(seconds):.1f} |",
                flush=True,
            )
        if "ilo" in found:
            verdicts.append(f"- {cell}: {verdict(found)}")
            print(f"<!-- {verdicts[-1]} -->", flush=True)
    print("\n" + "\n".join(verdicts))


if __name__ == "__main__":
    main()
