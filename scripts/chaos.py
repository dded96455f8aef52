"""Kill a run of two processes again and again, resume it each time, and look for what was lost.

    python scripts/chaos.py FOLDER [--kills 30] [--seed 0] [--short]
    python scripts/chaos.py FOLDER --real [--kills 3] [--seed 0]

Twelve images of the tiny generator are inverted by two processes with a checkpoint at every few steps. At
random instants one process or all get SIGKILL, SIGTERM or SIGINT and are started again, once as a single
process. In the end every image must be there once, its variables equal to the bit to those of a run that nobody killed, and no
temporary file may be left. Then: signals while the first process waits for another one, at the last step of a
batch, and to the command itself while it imports; kills within the writing of a checkpoint, a full disk, and checkpoints
that are cut short or have flipped bits. Processes are forked, so that starting one takes no seconds.
With ``--real`` two faces of the 1024 x 1024 generator stand for the twelve images, and only kills are tried.
"""

from __future__ import annotations

import os

# Forked processes must not share a pool of threads.
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import csv
import errno
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from ilo_pl import MobileStyleGAN, SplitGenerator, TinyGenerator
from ilo_pl.callbacks.checkpoint_io import good
from ilo_pl.config.compose import load_config
from ilo_pl.errors import IloError, Stopped
from ilo_pl.io.images import to_bytes
from ilo_pl.runs.run import run
from ilo_pl.runs.writer import ResultWriter

Sabotage = Callable[[], None]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Of a process that had a KeyboardInterrupt before or after its search.
INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """What is inverted.

    Args:
        images: folder of the images.
        count: how many there are.
        keys: of the run.
        pause: the longest time between two kills, in seconds.
    """

    images: Path
    count: int
    keys: tuple[str, ...]
    pause: float

    @property
    def names(self) -> list[str]:
        """The ids of the images."""
        return [f"img{i:02d}" for i in range(self.count)]

    def draw(self, generator: SplitGenerator) -> None:
        """Write the images."""
        self.images.mkdir(parents=True)
        shape = (self.count, generator.latent_dim)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        for name, latent in zip(self.names, latents, strict=True):
            pixels = to_bytes(generator(latent[None])[0]).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(self.images / f"{name}.png")


def tiny_job(folder: Path, steps: int) -> Job:
    """Return twelve images of the tiny generator, in batches of two, with three stages."""
    keys = (
        "generator=tiny", "batch_size=2", "method.splits=[0,1,3]", f"method.steps={steps}",
        "method.free_noises=4", "trainer.checkpoint_steps=3",
    )  # fmt: skip
    job = Job(folder / "images", 12, keys, pause=2.5)
    job.draw(TinyGenerator(seed=0))
    return job


def real_job(folder: Path, steps: int) -> Job:
    """Return two faces of the embedded generator, one by one, with three stages."""
    keys = (
        "generator=mobilestylegan_ffhq", "method.splits=[0,2,4]", f"method.steps={steps}",
        "method.free_noises=9", "trainer.checkpoint_steps=2", "compile=false",
    )  # fmt: skip
    job = Job(folder / "images", 2, keys, pause=60)
    # In a process of its own: what is forked later must not have threads of this.
    process = os.fork()
    if not process:
        job.draw(MobileStyleGAN.pretrained())
        os._exit(0)
    os.waitpid(process, 0)
    return job


def start(job: Job, output: Path, rank: int, world: int, sabotage: Sabotage | None = None) -> int:
    """Fork a process of a run and return its id.

    Args:
        job: what is inverted.
        output: the run folder.
        rank: number of the process.
        world: how many processes the run has.
        sabotage: what is done in the process before it runs.
    """
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        if world > 1:
            os.environ["LOCAL_RANK"] = str(rank)
        if sabotage is not None:
            sabotage()
        keys = [
            *job.keys, f"input={job.images}", f"output={output}", "resume=true",
            "trainer.accelerator=cpu", f"trainer.devices={world}",
        ]  # fmt: skip
        run(load_config(keys), Console(quiet=True), launch=True)
        status = 0
    except Stopped as stop:
        status = 128 + stop.signum
    except IloError as error:
        print(f"  process {rank}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(processes: Sequence[int]) -> list[int]:
    """Wait for processes and return their exit statuses, minus the signal where one ended them."""
    return [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes]


def storm(job: Job, output: Path, kills: int, draw: random.Random) -> int:
    """Kill and resume a run until it has had its kills, then let it end; return how many it had."""
    world, had = 2, 0
    alive = {rank: start(job, output, rank, world) for rank in range(world)}
    while had < kills:
        time.sleep(draw.uniform(0.1, job.pause))
        for rank, process in list(alive.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                assert status == 0, (rank, os.waitstatus_to_exitcode(status))
                del alive[rank]
        if 0 not in alive:
            break  # the run is over
        had += 1
        change = had == kills // 2
        victims = list(alive) if change or draw.random() < 0.5 else [draw.choice(list(alive))]
        signum = draw.choice(SIGNALS)
        for rank in victims:
            os.kill(alive[rank], signum)
        # Before its handlers are set a process ends by the signal itself, as one that only imports does.
        ended_well = (0, -signum, 128 + signum, INTERRUPTED)
        assert all(s in ended_well for s in wait([alive.pop(r) for r in victims]))
        if change or had == kills // 2 + 1:
            # Once with one process, and back to two at the kill that follows.
            for process in alive.values():
                os.kill(process, signal.SIGKILL)
            wait(list(alive.values()))
            alive = {}
            world = 1 if change else 2
        for rank in range(world):
            if rank not in alive:
                alive[rank] = start(job, output, rank, world)
    statuses = wait(list(alive.values()))
    assert not any(statuses), statuses
    return had


def check(job: Job, output: Path, whole: Path) -> float:
    """Compare a run with one that nobody killed, and return the largest difference of a variable."""
    for folder, suffix in (("reconstructions", "png"), ("latents", "safetensors")):
        found = sorted(p.name for p in (output / folder).iterdir())
        assert found == [f"{name}.{suffix}" for name in job.names], found
    rows = list(csv.DictReader((output / "seconds.csv").read_text().splitlines()))
    assert sorted(row["id"] for row in rows) == job.names, rows
    assert not (output / "failures.csv").exists()
    left = [p for p in output.rglob("*") if ".part" in p.name or ".ckpt" in p.name]
    assert not left, left
    worst = 0.0
    for name in job.names:
        ours, theirs = (load_file(p / "latents" / f"{name}.safetensors") for p in (output, whole))
        assert ours.keys() == theirs.keys()
        worst = max(worst, *(float((ours[k] - theirs[k]).abs().max()) for k in ours))
    return worst


def wait_for_a_stopped_one(job: Job, output: Path, signum: int) -> int:
    """Return the status of a first process that gets a signal while a second one sleeps in the middle of a batch."""
    first = start(job, output, 0, 2)
    second = start(job, output, 1, 2)
    while not list((output / "state").glob("checkpoints/*.ckpt")):
        time.sleep(0.05)
    os.kill(second, signal.SIGSTOP)
    time.sleep(2 * job.pause)
    with suppress(ProcessLookupError):
        os.kill(first, signum)
    (status,) = wait([first])
    os.kill(second, signal.SIGKILL)
    wait([second])
    assert status in (0, 128 + signum, INTERRUPTED), status
    return status


def waiting(job: Job, output: Path, whole: Path) -> None:
    """Stop the first process while it waits for a second one that does not go on."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        while wait_for_a_stopped_one(job, output, signum) == 0:
            # The second was stopped between two batches, so that the first had nobody to wait for.
            shutil.rmtree(output)
    assert wait([start(job, output, 0, 1)]) == [0]
    assert check(job, output, whole) <= 1e-5


def at_last_step() -> None:
    """Let every search of a batch get a SIGTERM when its results are written."""
    original = ResultWriter.on_result

    def told(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)

    ResultWriter.on_result = told  # type: ignore[assignment, method-assign]


def last_steps(job: Job, output: Path, whole: Path) -> None:
    """Stop a run at the last step of each of its batches; none may be searched twice or lose its row."""
    batches = job.count // 2
    for done in range(1, batches):
        assert wait([start(job, output, 0, 1, at_last_step)]) == [128 + signal.SIGTERM]
        assert len(list((output / "state" / "units").iterdir())) == done
    assert wait([start(job, output, 0, 1)]) == [0]
    assert check(job, output, whole) <= 1e-5


def importing(job: Job, output: Path, draw: random.Random, times: int = 8) -> None:
    """Interrupt the command itself in its first seconds: no traceback, and nothing left behind."""
    command = [
        sys.executable,
        "-m",
        "ilo_pl",
        "invert",
        f"input={job.images}",
        f"output={output}",
        "resume=true",
    ]
    for _ in range(times):
        process = subprocess.Popen([*command, *job.keys], stderr=subprocess.PIPE, text=True)
        # Python itself needs a moment before the first line of ours.
        time.sleep(draw.uniform(0.5, 4))
        process.send_signal(signal.SIGINT)
        told = process.communicate()[1]
        assert "Traceback" not in told, told
        assert process.returncode in (-signal.SIGINT, INTERRUPTED), (process.returncode, told)


def kill_at(function: str, call: int) -> Sabotage:
    """Return a sabotage: SIGKILL at the n-th call of a function of ``os`` for a checkpoint, just before it."""
    original = getattr(os, function)
    calls = 0

    def replaced(*arguments: object) -> object:
        nonlocal calls
        if "ckpt" in path_of(arguments[0]):
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    return lambda: setattr(os, function, replaced)


def path_of(file: object) -> str:
    """Return the path of what ``os`` is called with: a path, or the descriptor of an open file."""
    return os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else str(file)


def full_disk() -> None:
    """Let every checkpoint find the disk full."""
    original = os.fsync

    def fail(descriptor: int) -> None:
        if "ckpt" in path_of(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    os.fsync = fail  # type: ignore[assignment]
    warnings.simplefilter("ignore")


def writing(job: Job, output: Path, whole: Path) -> None:
    """Kill within the writing of checkpoints, at each of its moments; end on a full disk."""
    for function, call in (
        ("fsync", 1),
        ("fsync", 4),
        ("replace", 2),
        ("replace", 3),
        ("replace", 5),
    ):
        assert wait([start(job, output, 0, 1, kill_at(function, call))]) == [-9]
    assert wait([start(job, output, 0, 1, full_disk)]) == [0]
    assert check(job, output, whole) <= 1e-5


def damage(job: Job, output: Path, whole: Path, draw: random.Random) -> None:
    """Cut a checkpoint short and flip its bits: it must be found out, and the one before be used."""
    assert wait([start(job, output, 0, 1, kill_at("fsync", 5))]) == [-9]
    path = next((output / "state" / "checkpoints").glob("*.ckpt"))
    previous = path.with_name(f"{path.name}.previous")
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    cut = [data[: draw.randrange(len(data))] for _ in range(20)]
    for bad in (*cut, bytes(flipped)):
        path.write_bytes(bad)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert next(good(path)) == previous
        assert not path.exists() and "skipped" in str(told[0].message)
    path.write_bytes(cut[0])
    assert wait([start(job, output, 0, 1)]) == [0]
    assert check(job, output, whole) <= 1e-5


def main() -> None:
    """Run all of it and say what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, help="30, or 3 with --real")
    parser.add_argument("--steps", type=int, help="of each of three stages: 200, or 8 with --real")
    parser.add_argument("--short", action="store_true", help="the kills alone")
    parser.add_argument("--real", action="store_true", help="two images at 1024 x 1024")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    make, kills, steps = (real_job, 3, 8) if chosen.real else (tiny_job, 30, 200)
    job = make(chosen.folder, chosen.steps or steps)
    whole, stormy = (chosen.folder / n for n in ("whole", "storm"))
    began = time.monotonic()
    assert wait([start(job, whole, rank, 2) for rank in (0, 1)]) == [0, 0]
    print(f"a run of two processes that nobody kills: {time.monotonic() - began:.0f} s")
    had = storm(job, stormy, kills if chosen.kills is None else chosen.kills, draw)
    worst = check(job, stormy, whole)
    print(f"{had} kills: {job.count} images, each once; largest difference {worst:g}")
    assert worst == 0.0
    if chosen.short or chosen.real:
        return
    waiting(job, chosen.folder / "waiting", whole)
    print("stopped while waiting for another process: heard at once, nothing lost")
    last_steps(job, chosen.folder / "last", whole)
    print("stopped at the last step of every batch: nothing searched twice")
    importing(job, chosen.folder / "importing", draw)
    print("interrupted while importing: no traceback")
    writing(job, chosen.folder / "writing", whole)
    print("killed within checkpoints, and a full disk: nothing lost")
    damage(job, chosen.folder / "damage", whole, draw)
    print("20 cuts and a flipped bit: all found, the checkpoint before was used")
    print(f"all of it took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
