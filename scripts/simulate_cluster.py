"""What a cluster makes of batches: a simulation of the schedule with stragglers and failures.

    python scripts/simulate_cluster.py                        the table of docs/scaling.md
    python scripts/simulate_cluster.py --check summary.json [--kills 20] [--restart 3.5] [--batch 8]

Each worker takes the next batch when it has none, holds it for a time drawn around its mean, and loses it when it dies:
the batch goes to the front of the line, the worker comes back after a while. The driver takes each result, one after the
other. The store has a bandwidth that all workers share. ``--check`` compares with what a run of ``engine=ray`` took.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """What is simulated; seconds and bytes.

    Args:
        workers: how many.
        units: batches of images.
        images: in each.
        seconds: of a batch's search, mean.
        spread: its standard deviation as a share of the mean.
        slow_share, slow_factor: how many batches take how many times as long.
        life: mean seconds until a worker dies.
        restart: seconds until it is back.
        start: seconds until workers are there at first.
        driver: seconds of the driver for each batch.
        bytes: read and written for each image.
        bandwidth: bytes a second of the store, for all; of one worker a hundredth of a terabit is enough.
        line: bytes a second of one worker.
    """

    workers: int
    units: int
    images: int = 1
    seconds: float = 1.0
    spread: float = 0.05
    slow_share: float = 0.01
    slow_factor: float = 5.0
    life: float = math.inf
    restart: float = 60.0
    start: float = 0.0
    driver: float = 0.005
    bytes: float = 0.0
    bandwidth: float = math.inf
    line: float = 1e9


@dataclass(frozen=True)
class Course:
    """What came of it.

    Args:
        seconds: until the last batch was done.
        deaths: of workers.
        lost: seconds of searches that were begun again.
        idle: share of the workers' seconds without a batch: starts, waits, the end of the run.
    """

    seconds: float
    deaths: int
    lost: float
    idle: float


def simulate(cluster: Cluster, seed: int = 0) -> Course:
    """Return the course of a run; an event is a worker that is free, or has come to the end of a batch."""
    chance = np.random.default_rng(seed)
    share = min(cluster.line, cluster.bandwidth / cluster.workers)
    transfer = cluster.images * cluster.bytes / share
    waiting = cluster.units
    dies = [cluster.start + _life(cluster, chance) for _ in range(cluster.workers)]
    # When, who, and how long it held the batch that ends then; without one it is free.
    events = [(cluster.start, worker, 0.0) for worker in range(cluster.workers)]
    driver = busy = lost = 0.0
    deaths = running = 0
    while waiting or running:
        now, worker, took = heapq.heappop(events)
        if took:
            running -= 1
            busy += took
            # The driver hears of it in its turn, and hands out the next batch then.
            driver = max(driver, now) + cluster.driver
            heapq.heappush(events, (driver, worker, 0.0))
            continue
        if dies[worker] > now and waiting:
            took = _search(cluster, chance) + transfer
            if dies[worker] > now + took:
                waiting -= 1
                running += 1
                heapq.heappush(events, (now + took, worker, took))
                continue
            lost += dies[worker] - now
        if dies[worker] < math.inf and (waiting or running):
            deaths += 1
            back = dies[worker] + cluster.restart
            dies[worker] = back + _life(cluster, chance)
            heapq.heappush(events, (max(now, back), worker, 0.0))
    return Course(driver, deaths, lost, 1 - busy / (driver * cluster.workers))


def _search(cluster: Cluster, chance: np.random.Generator) -> float:
    """Draw the seconds of a search: log-normal, a few of them slow."""
    variance = math.log1p(cluster.spread**2)
    drawn = cluster.seconds * math.exp(chance.normal(-variance / 2, math.sqrt(variance)))
    return drawn * (cluster.slow_factor if chance.random() < cluster.slow_share else 1.0)


def _life(cluster: Cluster, chance: np.random.Generator) -> float:
    return float(chance.exponential(cluster.life)) if math.isfinite(cluster.life) else math.inf


def table(images: int, batch: int, seconds: float, size: float) -> None:
    """Print what 1, 8, 64 and 1,024 GPUs make of as many images for each.

    Args:
        images: for each GPU.
        batch: images in a batch.
        seconds: of one image's search.
        size: bytes read and written for an image.
    """
    print(
        f"{images} images a GPU, batches of {batch}, {seconds:g} s and {size / 1e6:g} MB an image"
    )
    print("| GPUs | images/h | of the ideal | lost to deaths | idle | bytes/s |")
    for gpus in (1, 8, 64, 1024):
        cluster = Cluster(
            workers=gpus,
            units=gpus * images // batch,
            images=batch,
            seconds=seconds * batch,
            life=24 * HOUR,
            bytes=size,
            bandwidth=10e9,
        )
        course = simulate(cluster)
        rate = gpus * images / course.seconds
        ideal = rate * seconds / gpus
        waste = course.lost / (course.seconds * gpus)
        print(
            f"| {gpus} | {rate * HOUR:,.0f} | {ideal:.3f} | {waste:.4f} | {course.idle:.3f} "
            f"| {rate * size / 1e6:,.0f} MB/s |"
        )


def check(summary: Path, batch: int, kills: int, restart: float) -> None:
    """Print what a run took and what the simulation says."""
    seen = json.loads(summary.read_text())
    units = -(-seen["images"] // batch)
    cluster = Cluster(
        workers=seen["workers"],
        units=units,
        images=batch,
        seconds=seen["busy"] / units,
        spread=0.2,
        slow_share=0.0,
        restart=restart,
        start=restart,
    )
    if kills:  # Only who is there can die.
        there = seen["workers"] * (seen["seconds"] - restart) - kills * restart
        cluster = replace(cluster, life=max(there / kills, 1e-3))
    courses = [simulate(cluster, seed) for seed in range(20)]
    times = sorted(course.seconds for course in courses)
    print(
        f"{units} batches, {seen['workers']} workers: {seen['seconds']:.1f} s seen, {times[10]:.1f} s simulated "
        f"({times[0]:.1f} to {times[-1]:.1f}), {np.mean([c.deaths for c in courses]):.1f} deaths"
    )


def main() -> None:
    """Print the table, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--restart", type=float, default=3.5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seconds", type=float, nargs="*", default=[21.6, 4.0, 0.5])
    parser.add_argument("--bytes", type=float, default=12e6)
    given = parser.parse_args()
    if given.check:
        check(given.check, given.batch, given.kills, given.restart)
        return
    for seconds in given.seconds:
        table(given.images, given.batch, seconds, given.bytes)


if __name__ == "__main__":
    main()
