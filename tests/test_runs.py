"""Runs that nothing loses: failures, resume, several processes, numbers that are not finite."""

from __future__ import annotations

import csv
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Schedule, Stage, TinyGenerator, cli
from ilo_pl.callbacks.checkpoint import Checkpointing
from ilo_pl.callbacks.checkpoint_io import SafeCheckpointIO
from ilo_pl.callbacks.events import EventLog
from ilo_pl.config.compose import load_config
from ilo_pl.config.trainer import TrainerConfig
from ilo_pl.errors import ConfigurationError, Stopped, TrainerError
from ilo_pl.inversion.stage import ILOStage
from ilo_pl.io.images import image_size, load_image, to_bytes
from ilo_pl.runs import sources
from ilo_pl.runs.place import device_count
from ilo_pl.runs.run import run
from ilo_pl.runs.trainer import choose_precision
from tests.conftest import IDS, images

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
NAMES = ["a", "b", "c", "d", "e"]
SHORT = Schedule(stages=(Stage(split=0, steps=6, lr=0.02), Stage(split=2, steps=6, lr=0.02)))


@pytest.fixture
def folder(tmp_path: Path, tiny: TinyGenerator) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    drawn = tiny(torch.randn(len(NAMES), 16, generator=torch.Generator().manual_seed(5)))
    for name, image in zip(NAMES, drawn, strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(path / f"{name}.png")
    return path


def keys(folder: Path, output: Path, *more: str) -> list[str]:
    few = [
        "method.splits=[0,2]",
        "method.steps=6",
        "method.free_noises=4",
        "batch_size=2",
        "method.deviation.steps=0",
    ]
    return [f"input={folder}", f"output={output}", "generator=tiny", *few, *more]


def go(folder: Path, output: Path, *more: str, callbacks: tuple[pl.Callback, ...] = ()) -> None:
    run(load_config(keys(folder, output, *more)), Console(quiet=True), "", callbacks)


def latents(output: Path) -> dict[str, dict[str, Tensor]]:
    return {p.stem: load_file(p) for p in sorted((output / "latents").iterdir())}


def same(a: Path, b: Path) -> bool:
    ours, theirs = latents(a), latents(b)
    equal = (torch.equal(ours[i][n], theirs[i][n]) for i in ours for n in ours[i])
    return ours.keys() == theirs.keys() and all(equal)


# Failures -------------------------------------------------------------------------------------------


def test_images_that_fail_hold_up_no_others(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = (folder / "c.png").read_bytes()
    (folder / "a.png").write_text("no image")
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])  # its header is fine
    Image.new("RGB", (40, 32)).save(folder / "d.png")
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["ilo-pl", "invert", *keys(folder, out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    assert "2 of 5 images cannot be used" in capsys.readouterr().err
    rows = {
        r["id"]: r["reason"]
        for r in csv.DictReader((out / "failures.csv").read_text().splitlines())
    }
    assert rows.keys() == {"a", "c", "d"}
    assert "not an image" in rows["a"] and "cannot be read" in rows["c"] and "40 pix" in rows["d"]
    assert sorted(latents(out)) == ["b", "e"]
    # Each was alone in its batch.
    (folder / "only.txt").write_text("# those that work\nb.png\ne.png\n")
    alone = tmp_path / "alone"
    go(folder / "only.txt", alone, "batch_size=1")
    assert same(out, alone)


def test_a_big_folder_is_checked_by_headers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.png").write_text("no image")
    read: list[str] = []

    def counted(path: Path) -> Any:
        read.append(path.stem)
        return load_image(path)

    monkeypatch.setattr(sources, "load_image", counted)
    config = load_config(keys(folder, tmp_path / "out"))
    files = {name: folder / f"{name}.png" for name in NAMES}
    maker = config.operator.maker((3, 32, 32), 0)
    source = sources.ImageFolder(files, maker, TinyGenerator(), 0, noise=config.noise)
    assert source.check().keys() == {"a"}
    assert read == ["b"]


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_size_in_the_header_is_the_one_that_is_loaded(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (40, 32))
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / "x.jpg", exif=exif)
    height, width = load_image(tmp_path / "x.jpg").rgb.shape[1:]
    assert image_size(tmp_path / "x.jpg") == (width, height)


class Traces(pl.Callback):
    """Remembers, weakly, every batch's walk and its last optimiser."""

    def __init__(self) -> None:
        self.walks: list[weakref.ref[Any]] = []
        self.optimizers: list[weakref.ref[Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.walks.append(weakref.ref(pl_module.walk))
        assert sum(ref() is not None for ref in self.walks) == 1
        assert not any(ref() for ref in self.optimizers)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.optimizers.append(weakref.ref(trainer.optimizers[0]))


def test_a_batch_is_dropped_when_it_is_done(folder: Path, tmp_path: Path) -> None:
    """At once: what is left to a collector is left for a while, and large."""
    traces = Traces()
    gc.disable()
    try:
        go(folder, tmp_path / "out", callbacks=(traces,))
    finally:
        gc.enable()
    assert len(traces.walks) == len(traces.optimizers) == 3


# Checkpoints and resume -----------------------------------------------------------------------------


class At(pl.Callback):
    """Does something after some of a run's steps."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.left, self.act = step, act

    def on_train_batch_end(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("how", "step"), [("SIGTERM", 6), ("SIGUSR1", 12), ("SIGINT", 1), ("exception", 20)]
)
def test_what_was_stopped_goes_on_to_the_same_bits(
    folder: Path, tmp_path: Path, how: str, step: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    go(folder, whole)
    number = getattr(signal, how, None)
    act = fail if number is None else lambda: os.kill(os.getpid(), number)
    with pytest.raises((Stopped, ZeroDivisionError)) as stop:
        go(folder, out, callbacks=(At(step, act),))
    if number is not None:
        assert isinstance(stop.value, Stopped) and stop.value.signum == number
        # The last step of a batch needs none: its results are about to be written.
        saved = list((out / "state" / "checkpoints").glob("*.ckpt"))
        assert len(saved) == (step % 12 != 0)
    finished = {p: p.stat().st_mtime_ns for p in out.glob("latents/*")}
    go(folder, out, "resume=true")
    assert same(whole, out)
    entries = [json.loads(p.read_text()) for p in (out / "state" / "units").iterdir()]
    done = {i for e in entries for i in e["ids"]}
    assert done == set(NAMES)
    if how != "exception":
        assert all(p.stat().st_mtime_ns == time for p, time in finished.items())
    assert not [p for p in out.rglob("*") if ".part" in p.name or ".ckpt" in p.name]
    rows = list(csv.DictReader((out / "seconds.csv").read_text().splitlines()))
    assert [r["id"] for r in rows] == NAMES and all(0 < float(r["seconds"]) < 100 for r in rows)


def test_the_status_names_the_signal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ilo-pl", "invert", *keys(folder, tmp_path / "out")])
    monkeypatch.setattr(EventLog, "on_stage", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 128 + signal.SIGTERM


def test_another_run_is_not_taken_for_the_same(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(folder, out)
    before = {p: p.stat().st_mtime_ns for p in out.glob("latents/*")}
    for change, says in (
        ("method.lr=0.3", "method.lr = 0.05 before, 0.3 now"),
        ("seed=1", "seed = 0 before, 1 now"),
        ("batch_size=3", "batch_size = 2 before, 3 now"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            go(folder, out, "resume=true", change)
    go(folder, out, "resume=true", "trainer.checkpoint_steps=2", "logger=none")
    shutil.copy(folder / "a.png", folder / "f.png")
    with pytest.raises(ConfigurationError, match="added or removed: f"):
        go(folder, out, "resume=true")
    assert {p: p.stat().st_mtime_ns for p in out.glob("latents/*")} == before
    go(folder, out, "resume=true", "allow_changes=true")
    changed = [p.stem for p, time in before.items() if p.stat().st_mtime_ns != time]
    assert changed == ["e"]  # it has a new neighbour
    assert sorted(latents(out)) == [*NAMES, "f"]


def test_a_result_that_is_gone_is_made_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(folder, out)
    lost = out / "reconstructions" / "e.png"
    before = lost.read_bytes()
    lost.unlink()
    go(folder, out, "resume=true")
    assert lost.read_bytes() == before


def test_chaos(tmp_path: Path) -> None:
    """Two processes, killed again and again; see the script."""
    script = Path(__file__).parent.parent / "scripts" / "chaos.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "chaos", "--kills", "4", "--steps", "9", "--short"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "12 images, each once; largest difference 0" in done.stdout


# Several processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_strategies_that_average_are_refused(make_task: MakeTask, strategy: str) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy="ddp" if strategy == "ddp" else "auto",
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    if strategy == "fsdp":  # needs a GPU to be asked for by name
        trainer._accelerator_connector.strategy = pl.strategies.FSDPStrategy()
    module = ILOInversion(make_task(SHORT))
    module._trainer = trainer
    with pytest.raises(TrainerError, match='strategy="ilo"'):
        module.configure_callbacks()


def test_two_processes_share_the_units(
    make_task: MakeTask, fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As torchrun and SLURM do it: the environment says who a process is."""
    monkeypatch.setattr(
        rank_zero_only, "rank", 0
    )  # the second process's is not to outlive this test
    task = make_task(SHORT, (0, 1, 2), batch_size=1)
    whole = images(fit(task))
    found: dict[str, Tensor] = {}
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        saved = Checkpointing(tmp_path / "x.ckpt", steps=5)
        options: dict[str, Any] = {"strategy": "ilo", "devices": 2, "callbacks": [saved]}
        part = fit(task, **options, enable_checkpointing=True, plugins=[SafeCheckpointIO()]).results
        assert len(part) == (2, 1)[rank]
        found |= {name: result.image for name, result in part.items()}
    assert torch.equal(torch.stack([found[name] for name in sorted(found)]), whole)
    written = {p.name for p in tmp_path.glob("x*")}
    beside = ("", ".previous", ".blake2b")
    assert written == {f"x.ckpt{rank}{more}" for rank in ("", ".rank1") for more in beside}


def test_the_command_starts_its_other_processes(folder: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    more = ["trainer.devices=2", "trainer.accelerator=cpu", "method.steps=60", "batch_size=1"]
    command = [sys.executable, "-m", "ilo_pl", "invert", *keys(folder, out, *more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Results are in") == 1
    go(folder, whole, "method.steps=60", "batch_size=1")
    assert sorted(latents(out)) == NAMES
    for name, tensors in latents(whole).items():
        for key, value in tensors.items():
            torch.testing.assert_close(latents(out)[name][key], value, atol=1e-3, rtol=0)


# Numbers that are not finite ------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_fault_in_one_image_stays_there(
    make_task: MakeTask, fit: Fit, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    task = make_task(SHORT, (0, 1, 2), batch_size=3)
    clean = fit(task).results
    original = ILOStage.objective

    def faulty(stage: ILOStage, step: int) -> tuple[Tensor, Tensor]:
        selector, total = original(stage, step)
        hurt = torch.tensor([0.0, 1.0, 0.0]) if step in (2, 3, 8) else torch.zeros(3)
        if fault == "loss":
            nan = torch.where(hurt > 0, torch.nan, 1.0)
            return selector * nan, total * nan
        # The derivative of the root is infinite at 0, and 0 times infinity is no number.
        roots = (stage.latents.flatten(1).sum(1) * 0 + 1 - hurt).abs().sqrt()
        return selector, total + torch.where(hurt > 0, roots, 0)

    monkeypatch.setattr(ILOStage, "objective", faulty)
    found = fit(task).results
    for name in (IDS[0], IDS[2]):
        assert torch.equal(found[name].image, clean[name].image)
    hurt = found[IDS[1]]
    assert torch.isfinite(hurt.image).all() and hurt.loss < float("inf")
    assert not torch.equal(hurt.image, clean[IDS[1]].image)
    counts = [
        [int(f) for r in found[i].stages for f in (r.faults,) if f is not None] for i in IDS[:3]
    ]
    assert counts == [[0, 0], [2, 1] if fault == "loss" else [0, 0], [0, 0]]


def test_after_a_fault_the_best_point_is_taken_up_with_half_a_step(
    make_task: MakeTask, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same search by hand: Adam on the tensors of the image itself."""
    schedule = Schedule(stages=(Stage(split=0, steps=5, lr=0.02, free_noises=0),))
    seen: list[Tensor] = []
    original = ILOStage.objective

    def faulty(stage: ILOStage, step: int) -> tuple[Tensor, Tensor]:
        seen.append(stage.latents.detach().clone())
        selector, total = original(stage, step)
        return (selector, total * torch.nan) if step == 2 else (selector, total)

    monkeypatch.setattr(ILOStage, "objective", faulty)
    scales: list[float] = []

    class Scales(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            scales.append(float(pl_module.stage.guard.step_scale))

    fit(make_task(schedule, (0,)), callbacks=[Scales()])
    assert scales == [1, 1, 0.5, 0.5, 0.5]
    assert torch.equal(seen[3], seen[1]) or torch.equal(seen[3], seen[0])  # the better of the two


# What is logged -------------------------------------------------------------------------------------


def test_every_stage_of_every_image_has_a_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    log = out / "log" / "events.rank0.jsonl"

    def cut() -> None:
        with log.open("a") as file:
            file.write('{"torn')
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        go(folder, out, callbacks=(At(14, cut),))
    go(folder, out, "resume=true")
    lines = log.read_text().splitlines()
    good = [json.loads(line) for line in lines if not line.startswith('{"torn')]
    assert sorted((e["image"], e["stage"]) for e in good) == [(i, s) for i in NAMES for s in (0, 1)]
    assert len(good) == len(lines) - 1
    for event in good:
        assert event["peak_memory_bytes"] > 2**20
        rate = event["steps"] * (1 if event["image"] == "e" else 2) / event["seconds"]
        assert event["image_steps_per_second"] == pytest.approx(rate, rel=0.01)
    assert [e["steps"] for e in good if e["image"] == "e"] == [6, 6]


def test_loggers_count_steps_over_the_whole_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(folder, out, "method.steps=60")
    rows = list(csv.DictReader((out / "log/version_0/metrics.csv").read_text().splitlines()))
    steps = [int(float(r["step"])) for r in rows if r["loss"]]
    assert len(steps) == 6 and steps == sorted(steps) and steps[-1] > 2 * 120


@pytest.mark.parametrize(("capability", "wanted"), [("AVX2", "32-true"), ("AVX512", "bf16-mixed")])
def test_a_processor_taken_for_a_lesser_one_computes_in_float32(
    capability: str, wanted: str
) -> None:
    """What ATEN_CPU_CAPABILITY=avx2 says, on a processor that has bfloat16."""
    with (
        patch.object(torch.backends.cpu, "get_cpu_capability", return_value=capability),
        patch.object(torch.cpu, "_is_avx512_bf16_supported", return_value=True),
    ):
        assert choose_precision(TrainerConfig(accelerator="cpu")) == wanted


def test_devices_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    counts = [device_count(TrainerConfig(), batches) for batches in (0, 3, 20)]
    assert counts == [1, 3, 8]
    assert device_count(TrainerConfig(accelerator="cpu"), 20) == 1
    assert device_count(TrainerConfig(devices=2), 20) == 2
    assert device_count(TrainerConfig(num_nodes=2), 3) == 8
