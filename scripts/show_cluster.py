"""Many tiny images through Ray: equal to the command's bits, through kills, stops and a store with errors.

    python scripts/show_cluster.py FOLDER --images 2000 --workers 2 --kills 20

Prints a table of what was shown; docs/benchmarks.md has one. FOLDER receives inputs and outputs; needs the extras ``ray``
and ``remote``, and moto for the store.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pyarrow.parquet as pq
import torch
from PIL import Image

from ilo_pl import TinyGenerator
from ilo_pl.io.images import to_bytes

SEARCH = ["generator=tiny", "method=csgm", "operator.fraction=0.3", "report=false", "logger=none"]
COMMAND = [sys.executable, "-m", "ilo_pl", "invert"]


def draw(folder: Path, count: int) -> None:
    """Write images of the tiny generator, one of which is damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    latents = torch.randn(count, 16, generator=torch.Generator().manual_seed(5))
    generator = TinyGenerator(seed=0)
    for start in range(0, count, 100):
        for number, image in enumerate(generator(latents[start : start + 100]), start):
            picture = Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy())
            picture.save(folder / f"face{number:06d}.png")
    (folder / f"face{count // 2:06d}.png").write_bytes(b"damaged")


def parts(output: str) -> list[Any]:
    """Return the tables of results of a run."""
    fs, root = fsspec.core.url_to_fs(output)
    return [pq.read_table(io.BytesIO(fs.cat_file(p))) for p in sorted(fs.find(f"{root}/results"))]


def compare(output: str, plain: Path) -> str:
    """Say how a run's results compare with the files of a run folder."""
    seen: dict[str, bool] = {}
    doubled = 0
    for table in parts(output):
        for row in table.select(["id", "image", "latents"]).to_pylist():
            doubled += row["id"] in seen
            picture = (plain / "reconstructions" / f"{row['id']}.png").read_bytes()
            latents = (plain / "latents" / f"{row['id']}.safetensors").read_bytes()
            seen[row["id"]] = row["image"] == picture and same(row["latents"], latents)
    wanted = {p.stem for p in (plain / "reconstructions").iterdir()}
    other = sum(not equal for equal in seen.values())
    return f"{len(seen)} images, {len(wanted - set(seen))} lost, {doubled} doubled, {other} of other bits"


def same(ours: bytes, theirs: bytes) -> bool:
    """Return whether two files of latents hold the same tensors; the order of their metadata is anybody's."""
    from safetensors.torch import load

    one, other = load(ours), load(theirs)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def workers_of(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Return the worker processes of a Ray run that are at work."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        return [p for p in below if "MapWorker" in " ".join(p.cmdline())]
    except psutil.Error:
        return []


def run(keys: Iterable[str], watch: Callable[[subprocess.Popen[Any]], None] | None = None) -> float:
    """Run the command and return its seconds; 3 is the status of a run with a damaged image."""
    began = time.monotonic()
    process = subprocess.Popen([*COMMAND, *keys], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if watch is not None:
        watch(process)
    _, said = process.communicate()
    if process.returncode not in (0, 3, -signal.SIGKILL):
        raise SystemExit(f"ended with {process.returncode}: {said.decode()[-2000:]}")
    return time.monotonic() - began


def count(output: Path) -> int:
    """Return how many batches are done."""
    return len(list((output / "results").glob("*.parquet"))) if (output / "results").is_dir() else 0


def killing(output: Path, kills: int, batches: int, done: list[int]) -> Callable[..., None]:
    """Return what kills a random worker now and then, spread over a run."""

    def watch(process: subprocess.Popen[Any]) -> None:
        chance = random.Random(0)
        for number in range(kills):
            while process.poll() is None and count(output) < batches * number / kills:
                time.sleep(0.05)
            alive = workers_of(process)
            while process.poll() is None and not alive:
                time.sleep(0.1)
                alive = workers_of(process)
            if process.poll() is None:
                time.sleep(chance.uniform(0, 0.5))
                victim = chance.choice(alive)
                if victim.is_running():
                    victim.kill()
                    done[0] += 1

    return watch


def stopping(output: Path, batches: int) -> Callable[..., None]:
    """Return what kills the driver, and with it all it started, halfway."""

    def watch(process: subprocess.Popen[Any]) -> None:
        while process.poll() is None and count(output) < batches // 2:
            time.sleep(0.05)
        process.kill()

    return watch


class Memory:
    """Notes, as batches are done, the MB that the driver and its largest worker share with nobody."""

    def __init__(self, output: Path, batches: int) -> None:
        self._output, self._apart = output, batches / 40
        self._seen: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]

    def __call__(self, process: subprocess.Popen[Any]) -> None:
        """Look on until a run ends."""
        while process.poll() is None:
            done, workers = count(self._output), workers_of(process)
            if workers and done >= self._seen[-1][0] + self._apart:
                with contextlib.suppress(psutil.Error):
                    driver = psutil.Process(process.pid).memory_full_info().uss / 1e6
                    largest = max(w.memory_full_info().uss / 1e6 for w in workers)
                    self._seen.append((done, driver, largest))
            time.sleep(1)

    def tell(self) -> None:
        """Print a line behind a quarter of the notes, and of the last."""
        for done, driver, worker in (self._seen[len(self._seen) // 4], self._seen[-1]):
            print(f"  {done} batches: driver {driver:.0f} MB, largest worker {worker:.0f} MB")


class Faulty:
    """A store that refuses a share of the requests, and answers a share of them late.

    Args:
        app: the store.
        refused: share of requests answered by 503.
        late: share answered after a while.
        seconds: that while.
    """

    def __init__(self, app: Any, refused: float, late: float, seconds: float) -> None:
        self._app, self._refused, self._late, self._seconds = app, refused, late, seconds
        self._chance = random.Random(0)
        self._lock = threading.Lock()
        self.seen = {"requests": 0, "refused": 0, "late": 0}

    def __call__(self, environ: Any, start: Any) -> Any:
        """Answer a request."""
        with self._lock:
            draw = self._chance.random()
            refused, late = draw < self._refused, draw > 1 - self._late
            self.seen["requests"] += 1
            self.seen["refused"] += refused
            self.seen["late"] += late
        if late:
            time.sleep(self._seconds)
        if refused:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [
                b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
            ]
        return self._app(environ, start)


def store(refused: float = 0.1, late: float = 0.05, seconds: float = 1.0) -> tuple[Any, Faulty]:
    """Start a server of S3's language on this machine, and point this process and its children to it."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faulty = Faulty(DomainDispatcherApplication(create_backend_app), refused, late, seconds)
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return server, faulty


def main() -> None:
    """Show it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=["ray", "kills", "stop", "s3"])
    given = parser.parse_args()
    folder, batches = given.folder, -(-given.images // given.batch)
    inputs, plain = folder / "in", folder / "plain"
    keys = [*SEARCH, f"method.steps={given.steps}", f"batch_size={given.batch}"]
    ray = ["engine=ray", f"engine.workers={given.workers}", "engine.cpus=0.5"]
    if not inputs.is_dir():
        draw(inputs, given.images)
    if not (plain / "failures.csv").exists():
        shutil.rmtree(plain, ignore_errors=True)
        devices = [f"trainer.devices={given.workers}", "trainer.accelerator=cpu"]
        print(f"plain: {run([*keys, *devices, f'input={inputs}', f'output={plain}']):.0f} s in all")

    def show(name: str, output: str, source: str, watch: Any = None, *more: str) -> None:
        seconds = run([*keys, *ray, *more, f"input={source}", f"output={output}"], watch)
        fs, root = fsspec.core.url_to_fs(output)
        if fs.exists(f"{root}/summary.json"):
            summary = json.loads(fs.cat_file(f"{root}/summary.json"))
            speed = summary["images"] / max(summary["seconds"], 1e-9)
            print(f"{name}: {seconds:.0f} s in all, {speed:.2f} images/s; {compare(output, plain)}")
            print(f"  {summary}")

    for name in given.only:
        output = folder / name
        shutil.rmtree(output, ignore_errors=True)
        if name == "ray":
            memory = Memory(output, batches)
            show(name, str(output), str(inputs), memory)
            memory.tell()
        elif name == "kills":
            killed = [0]
            show(name, str(output), str(inputs), killing(output, given.kills, batches, killed))
            print(f"  {killed[0]} workers killed")
        elif name == "stop":
            show(name, str(output), str(inputs), stopping(output, batches))
            print(f"  driver killed when {count(output)} of {batches} batches were done")
            show(name, str(output), str(inputs), None, "resume=true")
        elif name == "s3":
            server, faulty = store()
            fs = fsspec.filesystem("s3")
            fs.mkdir("shown")
            fs.put(str(inputs), "shown/in", recursive=True)
            show(name, "s3://shown/out", "s3://shown/in")
            print(f"  {faulty.seen}")
            server.shutdown()


if __name__ == "__main__":
    main()
