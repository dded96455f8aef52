#!/usr/bin/env python
"""Medians and worst cases of experiments, as the tables of docs/benchmarks.md.

    python scripts/summarise_experiment.py FOLDER [FOLDER ...]

Each folder was written by `ilo-pl experiment`. Prints, for each level and method, PSNR and LPIPS as median
(worst) over the images, and the ratio of the median mean squared error to that of the method `ilo`.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path


def summarise(folder: Path) -> list[str]:
    """Return the lines of one experiment's table."""
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    groups: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["level"]][row["method"]].append(row)
    key = rows[0]["key"]
    lines = [
        f"| {key} | method | images | PSNR (dB) | LPIPS | MSE over ilo's | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for level, methods in sorted(groups.items(), key=lambda item: float(item[0] or 0)):
        reference = methods.get("ilo") or next(iter(methods.values()))
        base = statistics.median(float(row["mse"]) for row in reference)
        for method, found in methods.items():
            psnr, lpips, mse = (
                [float(row[name]) for row in found] for name in ("psnr", "lpips", "mse")
            )
            lines.append(
                f"| {level} | {method} | {len(found)} | {statistics.median(psnr):.2f} ({min(psnr):.2f}) "
                f"| {statistics.median(lpips):.3f} ({max(lpips):.3f}) "
                f"| {statistics.median(mse) / base:.2f} | {found[0]['steps']} |"
            )
    return lines


def main() -> None:
    """Print a table for each folder."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        print(f"\n{name}\n")
        print("\n".join(summarise(Path(name))))


if __name__ == "__main__":
    main()
