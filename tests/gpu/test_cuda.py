"""What only a CUDA device can show: ``make test-gpu``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from ilo_pl import (
    ILOInversion,
    InverseTask,
    MobileStyleGAN,
    Radii,
    Reencode,
    Schedule,
    Stage,
    TinyGenerator,
    load_method,
    render,
)
from ilo_pl.generators.point import Point
from ilo_pl.inversion.l1_ball import project_l1_ball
from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.walk import Walk
from ilo_pl.io.images import to_bytes
from ilo_pl.operators import Mask
from ilo_pl.seeding import normal
from tests.conftest import IDS, command
from tests.inversion.test_second_device import OPERATORS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # Lightning and CUDA say much of themselves; none of it is about results.
    pytest.mark.filterwarnings("default"),
]
CUDA = torch.device("cuda", 0)
BALLS = Radii(hidden=0.05, latents=0.1, noises=0.1)
SCHEDULE = Schedule(
    stages=(
        Stage(split=0, steps=6, lr=0.02, free_noises=2),
        Stage(
            split=2,
            steps=6,
            lr=0.02,
            free_noises=4,
            radii=BALLS,
            rounds=2,
            reencode=Reencode(steps=3),
        ),
    )
)


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """Put torch's global switches back."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)
    torch.cuda.set_sync_debug_mode("default")


def fit(task: InverseTask, ckpt_path: str | None = None, **options: Any) -> ILOInversion:
    inversion = ILOInversion(task, compile=options.pop("compile", False))
    settings: dict[str, Any] = {"accelerator": "gpu", "devices": 1, "logger": False}
    settings |= {"enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(**settings, enable_model_summary=False, **options).fit(
        inversion, ckpt_path=ckpt_path
    )
    return inversion


def task_of(name: str, schedule: Schedule = SCHEDULE, batch_size: int = 1) -> InverseTask:
    generator, operator = TinyGenerator(0), OPERATORS[name]()
    z = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(7))
    measured = operator(generator(z, "z").clamp(-1, 1))
    return InverseTask(
        generator, operator, measured, schedule=schedule, ids=IDS[:2], batch_size=batch_size
    )


class StopAt(pl.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", OPERATORS)
def test_two_batches_and_a_resume_of_every_operator(name: str, tmp_path: Path) -> None:
    whole = fit(task_of(name), deterministic="warn")
    path = tmp_path / "at.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task_of(name), deterministic="warn", callbacks=[StopAt(31, path)])
    resumed = fit(task_of(name), str(path), deterministic="warn")
    for image_id in IDS[:2]:
        image = resumed.results[image_id].image
        assert bool(torch.isfinite(image).all())
        torch.testing.assert_close(image, whole.results[image_id].image, atol=2e-2, rtol=0)


def test_an_interruption_changes_no_bit(tmp_path: Path) -> None:
    whole = fit(task_of("mask"), deterministic=True)
    path = tmp_path / "at.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task_of("mask"), deterministic=True, callbacks=[StopAt(10, path)])
    resumed = fit(task_of("mask"), str(path), deterministic=True)
    for image_id in IDS[:2]:
        assert torch.equal(resumed.results[image_id].image, whole.results[image_id].image)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_every_precision_explains_the_measurements(precision: str) -> None:
    schedule = Schedule(
        stages=(Stage(split=0, steps=60, lr=0.1), Stage(split=2, steps=40, lr=0.05))
    )
    results = fit(task_of("mask", schedule, batch_size=2), precision=precision).results
    assert all(r.loss < 0.02 for r in results.values())
    assert all(r.point.latents.dtype == torch.float32 for r in results.values())


def test_a_batch_equals_single_runs_to_rounding() -> None:
    one, two = (fit(task_of("mask", batch_size=n), deterministic="warn").results for n in (1, 2))
    for image_id in IDS[:2]:
        torch.testing.assert_close(one[image_id].image, two[image_id].image, atol=5e-3, rtol=0)


def test_nothing_in_a_step_waits_for_the_device() -> None:
    task = task_of("mask", batch_size=2)
    task.generator.to(CUDA)
    walk = Walk(task, task.source.load([0, 1]).to(CUDA), Engine(task.generator, "v"))
    configured: Any = walk.stage.configure_optimizers()
    optimizer = configured["optimizer"]
    for step in range(3):
        # The first step makes the optimiser's state.
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        optimizer.zero_grad()
        walk.stage.training_step(None, step).backward()  # type: ignore[no-untyped-call]
        walk.stage.isolate()
        optimizer.step()
        walk.stage.settle()
    torch.cuda.set_sync_debug_mode("default")
    assert bool(torch.isfinite(walk.stage.best_loss).all())


def test_rendering_is_the_same_whatever_tf32_is_set_to() -> None:
    generator = MobileStyleGAN.pretrained().to(CUDA)
    normal = torch.randn(1, 16, 512, generator=torch.Generator().manual_seed(1))
    point = Point(0, {}, generator.from_normal(normal.to(CUDA), "v"), {})
    images = []
    for allowed in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        images.append(render(generator, point, "v"))
    assert torch.equal(*images)
    on_cpu = render(generator.cpu(), point.map(lambda t: t.cpu()), "v")
    assert int((to_bytes(images[0].cpu()).int() - to_bytes(on_cpu).int()).abs().max()) <= 1


def test_noise_that_is_drawn_on_the_device_knows_no_batch() -> None:
    pair = normal((3, 64, 64), 0, ("a", "b"), "noise addition", 7, CUDA)
    assert torch.equal(pair[1:], normal((3, 64, 64), 0, ("b",), "noise addition", 7, CUDA))
    assert not torch.equal(pair[1:], normal((3, 64, 64), 0, ("b",), "noise addition", 8, CUDA))
    assert abs(float(pair.std()) - 1) < 0.02


def test_the_projection_equals_the_one_on_the_cpu() -> None:
    rng = torch.Generator().manual_seed(0)
    points, centres = torch.randn(2, 4, 300_000, generator=rng).unbind()
    for share in (1e-4, 0.1, 0.9):
        radius = share * float(points.abs().sum(1).mean())
        ours = project_l1_ball(points.to(CUDA), centres.to(CUDA), radius).cpu()
        expected = project_l1_ball(points.double(), centres.double(), radius)
        torch.testing.assert_close(ours.double(), expected, atol=1e-5, rtol=0)
        norms = (ours - centres).double().abs().sum(1)
        assert bool((norms <= radius * (1 + 1e-5)).all())


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(5))
    for name, image in zip(IDS[:3], TinyGenerator(0)(z), strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    return folder


def test_the_command_with_batches_as_large_as_fit_then_again(
    monkeypatch: pytest.MonkeyPatch, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    keys = [
        f"input={faces}",
        f"reference={faces}",
        f"output={out}",
        "generator=tiny",
        "batch_size=auto",
    ]
    few = ["method.splits=[0,1,3]", "method.steps=5", "method.free_noises=4"]
    assert command(monkeypatch, "invert", *keys, *few) == 0
    first = np.array(Image.open(out / "reconstructions" / "ann.png"))
    assert first.std() > 0
    assert command(monkeypatch, "invert", *keys, *few, "resume=true") == 0


@pytest.mark.parametrize(
    "task", ["super_resolution operator.factor=4", "deblurring", "compressed_sensing"]
)
def test_every_task_of_the_command(
    monkeypatch: pytest.MonkeyPatch, faces: Path, tmp_path: Path, task: str
) -> None:
    name, *more = task.split()
    keys = [f"input={faces}", f"output={tmp_path}/out", "generator=tiny", f"task={name}", *more]
    few = ["method.splits=[0,1,3]", "method.steps=4", "method.free_noises=4"]
    assert command(monkeypatch, "invert", *keys, *few) == 0
    assert len(list((tmp_path / "out" / "reconstructions").iterdir())) == 3


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_processes(monkeypatch: pytest.MonkeyPatch, faces: Path, tmp_path: Path) -> None:
    keys = [f"input={faces}", "generator=tiny", "method.steps=5", "method.free_noises=4"]
    keys += ["method.splits=[0,1,3]", "trainer.precision=32-true"]
    for count in (1, 2):
        out = tmp_path / str(count)
        assert (
            command(monkeypatch, "invert", *keys, f"output={out}", f"trainer.devices={count}") == 0
        )
    for name in IDS[:3]:
        one, two = (
            np.array(Image.open(tmp_path / n / f"reconstructions/{name}.png")) for n in "12"
        )
        assert np.abs(one.astype(int) - two).max() <= 1


def test_the_real_generator_compiled(run_real: Callable[..., ILOInversion]) -> None:
    compiled = run_real(compile=True, precision="bf16-mixed")
    eager = run_real(compile=False, precision="32-true")
    a, b = (r.results["face"].image for r in (compiled, eager))
    assert bool(torch.isfinite(a).all())
    assert float((a - b).abs().mean()) < 0.1


@pytest.fixture
def run_real() -> Callable[..., ILOInversion]:
    generator = MobileStyleGAN.pretrained()
    with torch.no_grad():
        truth: Tensor = generator(torch.randn(1, 512, generator=torch.Generator().manual_seed(1)))
    mask = Mask.random(generator.image_shape, 0.1, 0, ["face"])

    def run(**options: Any) -> ILOInversion:
        task = InverseTask(
            generator,
            mask,
            mask(truth.clamp(-1, 1)),
            schedule=load_method("ilo", steps=10),
            ids=["face"],
        )
        return fit(task, **options)

    return run


def test_peak_memory_of_an_image_is_bounded(run_real: Callable[..., ILOInversion]) -> None:
    torch.cuda.reset_peak_memory_stats()
    run_real(compile=False, precision="bf16-mixed")
    assert torch.cuda.max_memory_allocated() < 8e9
