"""Batches by Ray: the bits of the command, through a killed worker; what is done stays done."""

from __future__ import annotations

import gc
import io
import json
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load

from ilo_pl.config.compose import load_config
from ilo_pl.errors import ConfigurationError, OutputError
from ilo_pl.runs.run import run

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("ray.data", reason="the extra ray is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from ilo_pl.cluster.engine import Summary, _imported, _start, run_ray  # noqa: E402

KEYS = ["generator=tiny", "method=csgm", "method.steps=4", "operator.fraction=0.3", "batch_size=2"]
RAY = ["engine=ray", "engine.workers=2", "engine.cpus=0.5"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    _start(_imported(), None)
    yield
    with warnings.catch_warnings():
        # Ray does not wait for the processes that it ends.
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


def go(pictures: str, output: str, *more: str) -> Summary:
    return run_ray(
        load_config([f"input={pictures}", f"output={output}", *KEYS, *RAY, *more]),
        Console(quiet=True),
    )


def rows(output: Path, kind: str = "results") -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(io.BytesIO(p.read_bytes())) for p in sorted((output / kind).iterdir())]
    found = [row for table in tables for row in table.to_pylist()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def killer(output: Path) -> threading.Thread:
    """Kill a worker, whichever, once the first batch is done."""
    import psutil

    # Those below this process: other runs on this machine are none of ours.
    own = psutil.Process()

    def kill() -> None:
        while not list(output.glob("results/*.parquet")):
            time.sleep(0.05)
        for process in own.children(recursive=True):
            if "MapWorker" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
                return

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_every_image_once_with_the_commands_bits_though_a_worker_is_killed(
    cluster: None, pictures: Path, tmp_path: Path
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    keys = [f"input={pictures}", f"output={plain}", *KEYS, "report=false", "logger=none"]
    run(load_config([*keys, f"reference={pictures}"]), Console(quiet=True))
    watch = killer(out)
    summary = go(str(pictures), str(out), "engine.results=both")
    watch.join()
    assert (summary.failed, summary.unfinished) == (1, {})
    results = rows(out)
    wanted = {p.stem: p for p in (plain / "reconstructions").iterdir()}
    assert results.keys() == wanted.keys() and len(wanted) == 9
    for name, row in results.items():
        theirs = load((plain / "latents" / f"{name}.safetensors").read_bytes())
        ours = load(row["latents"])
        assert row["image"] == wanted[name].read_bytes()
        assert (out / "reconstructions" / f"{name}.png").read_bytes() == row["image"]
        assert all((ours[k] == theirs[k]).all() for k in theirs) and ours.keys() == theirs.keys()
    assert rows(out, "failures").keys() == {"face03"}
    # What is done is not searched again; what is gone is, alone, and comes out the same.
    gone = out / "results" / "part-00000002.parquet"
    before = {p.name: p.stat().st_mtime_ns for p in (out / "results").iterdir()}
    gone.unlink()
    again = go(str(pictures), str(out), "engine.results=both", "resume=true")
    assert (again.before, again.images) == (8, 2)
    after = {p.name: p.stat().st_mtime_ns for p in (out / "results").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {gone.name}
    assert rows(out)["face04"]["image"] == results["face04"]["image"]
    # Another run does not go on here, nor does one without resume.
    with pytest.raises(ConfigurationError, match="seed"):
        go(str(pictures), str(out), "engine.results=both", "resume=true", "seed=1")
    with pytest.raises(OutputError, match="already"):
        go(str(pictures), str(out), "engine.results=both")


def test_the_twenty_lines_of_the_docs(
    cluster: None, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    blocks = [after.split("```")[0] for after in text.split("```python\n")[1:]]
    code = next(block for block in blocks if "map_batches" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").symlink_to(pictures)
    exec(compile(code, "docs", "exec"), {"__name__": "docs"})
    tables = [pq.read_table(p).to_pylist() for p in (tmp_path / "results").glob("*.parquet")]
    found = {row["id"]: row for table in tables for row in table}
    assert len(found) == 10 and sum(row["failure"] is None for row in found.values()) == 9
    assert json.loads(json.dumps(found["face03"]["failure"]))


def test_what_does_not_go_with_ray_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for key in ("follow=frames", "batch_size=auto", "trainer.devices=2"):
        with pytest.raises(ConfigurationError, match="does not go"):
            go(str(tmp_path), str(tmp_path / "out"), key)
    assert list(tmp_path.iterdir()) == []
