"""Images in an order: each is searched from the solution of the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule, Stage, TinyGenerator
from ilo_pl.config.choices import choices
from ilo_pl.config.compose import load_config
from ilo_pl.config.method import FollowFrames, SearchMethod
from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.generators.point import Point, carry, render
from ilo_pl.inversion.stage_spec import Radii
from ilo_pl.io.images import load_image, to_bytes
from ilo_pl.io.video import frame_rate, read_frames, write_video
from ilo_pl.operators import Identity
from ilo_pl.runs.run import run

Fit = Callable[..., ILOInversion]
FRAMES = 4
FOLLOW = ["follow=frames", "follow.splits=[2]", "follow.steps=5", "follow.free_noises=0"]


@pytest.fixture
def clip(tmp_path: Path, tiny: TinyGenerator) -> Path:
    path = tmp_path / "clip"
    path.mkdir()
    ends = torch.randn(2, 16, generator=torch.Generator().manual_seed(5))
    for i in range(FRAMES):
        image = tiny(torch.lerp(ends[:1], ends[1:], 0.02 * i))[0]
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(path / f"frame{i}.png")
    return path


def go(clip: Path, out: Path, *more: str) -> dict[str, dict[str, Tensor]]:
    few = ["generator=tiny", "method.splits=[0,2]", "method.steps=20", "method.free_noises=4"]
    few += ["method.deviation.steps=0", "method.validation=0", "consistency=false"]
    keys = [f"input={clip}", f"output={out}", "operator.fraction=0.5", *few, *more]
    run(load_config(keys), Console(quiet=True))
    return {p.stem: load_file(p) for p in sorted((out / "latents").iterdir())}


def test_every_frame_stays_near_the_one_before(clip: Path, tmp_path: Path) -> None:
    radius = 0.01
    found = go(
        clip, tmp_path / "out", *FOLLOW, f"follow.radii.hidden={radius}", "follow.radii.latents=0"
    )
    assert list(found) == [f"frame{i}" for i in range(FRAMES)]
    for i in range(1, FRAMES):
        before, now = found[f"frame{i - 1}"], found[f"frame{i}"]
        hidden = [name for name in now if name.startswith("hidden.")]
        moved = torch.cat([(now[n] - before[n]).flatten() for n in hidden]).abs()
        assert 0 < moved.mean() <= radius * (1 + 1e-5)
        assert torch.equal(now["latents"], before["latents"])


def test_a_stopped_clip_goes_on(clip: Path, tmp_path: Path) -> None:
    whole = go(clip, tmp_path / "whole", *FOLLOW)
    out = tmp_path / "out"
    (tmp_path / "some.txt").write_text("clip/frame0.png\nclip/frame1.png\n")
    go(tmp_path / "some.txt", out, *FOLLOW)
    found = go(clip, out, *FOLLOW, "resume=true", "allow_changes=true")
    assert all(torch.equal(whole[i][n], found[i][n]) for i in whole for n in whole[i])


def test_a_frame_that_cannot_be_read_is_skipped(clip: Path, tmp_path: Path) -> None:
    for name in ("frame0", "frame2"):
        (clip / f"{name}.png").write_text("no image")
    found = go(clip, tmp_path / "out", *FOLLOW, "follow.radii.hidden=0", "follow.radii.latents=0")
    first, last = found["frame1"], found["frame3"]
    assert list(found) == ["frame1", "frame3"]
    assert all(torch.equal(first[n], last[n]) for n in last)


def test_a_start_leaves_its_deviation_behind(tiny: TinyGenerator, fit: Fit) -> None:
    latents = torch.randn(1, tiny.num_slots, 16, generator=torch.Generator().manual_seed(0))
    start = Point(0, {}, latents, {}, deviation=torch.ones(1, 3, 32, 32))
    still = Schedule(latent_space="z", stages=(Stage(split=0, steps=1, lr=1e-9, free_noises=0),))
    operator = Identity((3, 32, 32))
    task = InverseTask(
        tiny,
        operator,
        torch.zeros(1, 3, 32, 32),
        schedule=still,
        start=lambda ids: start,
        consistency=False,
    )
    found = fit(task).results["image0"].image
    torch.testing.assert_close(found, tiny(latents, "z")[0].clamp(-1, 1), rtol=0, atol=1e-3)


def test_a_start_is_carried_to_the_first_stage(tiny: TinyGenerator, fit: Fit) -> None:
    latents = torch.randn(2, tiny.num_slots, 16, generator=torch.Generator().manual_seed(0))
    start = carry(tiny, Point(0, {}, latents, {}), "z", 1)
    frozen = Stage(split=2, steps=1, radii=Radii(hidden=0, latents=0), free_noises=0)
    schedule = Schedule(stages=(frozen,), latent_space="z")
    mask = Mask.random((3, 32, 32), 0.5, 0, ["a", "b"])
    seen: list[list[str]] = []

    def begin(ids: list[str]) -> Point:
        seen.append(list(ids))
        return start

    ids = ["a", "b"]
    truth = render(tiny, start, "z")
    task = InverseTask(
        tiny, mask, mask(truth), schedule=schedule, ids=ids, batch_size=2, start=begin
    )
    results = fit(task).results
    assert seen == [ids]
    found = torch.stack([results[i].image for i in ids])
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)
    wrong = Schedule(stages=(Stage(split=0, steps=1),), latent_space="z")
    task = InverseTask(tiny, mask, mask(truth), schedule=wrong, ids=ids, batch_size=2, start=begin)
    with pytest.raises(ConfigurationError, match=r"at split 1, .* first stage is at split 0"):
        fit(task)


def test_followers_take_over_what_is_not_said() -> None:
    method = SearchMethod(
        name="ilo",
        splits=(0, 3),
        steps=9,
        lr=(0.1, 0.2),
        ramp_up=(0.1, 0.3),
        radii={"hidden": 0.4, "unit": ("mean", "l1")},
        losses={"mse": 1, "lpips": [0, 0.5]},
    )
    follow = FollowFrames(
        name="frames", splits=(3, 4), steps=(5, 6), lr=0.3, free_noises=0, radii={"latents": 0.6}
    )
    first, second = method.following(follow).stages
    assert (first.split, second.split) == (3, 4)
    assert (first.steps, second.steps) == (5, 6)
    assert (first.lr, first.ramp_up, first.free_noises) == (0.3, 0.3, 0)
    assert first.losses == {"mse": 1, "lpips": 0.5}
    # What follows says all radii but their unit; one value is for the second stage on.
    assert first.radii == Radii(unit="l1")
    assert second.radii == Radii(latents=0.6, unit="l1")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["batch_size=2"], "batch_size = 2"),
        (["follow.rate=-1"], r"follow\.rate = -1"),
        (["method=bm3d", "task=denoising"], "method = bm3d"),
        (["task=ood_generation", "operator.target=espresso"], "task = ood_generation"),
    ],
)
def test_what_has_no_order_is_refused(keys: list[str], message: str) -> None:
    given = [] if "task=ood_generation" in keys else ["input=clip"]
    with pytest.raises(ConfigurationError, match=message):
        load_config([*given, "output=out", "follow=frames", *keys])


def test_a_video_becomes_a_video(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = tmp_path / "film.mp4"
    write_video(sorted(clip.iterdir()), film, rate=12)
    assert frame_rate(film) == 12
    for i, (number, frame) in enumerate(read_frames(film)):
        truth = to_bytes(load_image(clip / f"frame{i}.png").rgb)
        assert number == i and (frame.float() - truth.float()).abs().mean() < 6  # 4:2:0 at 32 x 32
    out = tmp_path / "out"
    found = go(film, out, *FOLLOW)
    assert list(found) == [f"film_{i:06d}" for i in range(FRAMES)]
    assert frame_rate(out / "video.mp4") == 12
    assert len(list(read_frames(out / "video.mp4"))) == FRAMES
    go(film, tmp_path / "slow", *FOLLOW, "follow.rate=5")
    assert frame_rate(tmp_path / "slow" / "video.mp4") == 5


def test_odd_sizes_and_other_sizes(tmp_path: Path) -> None:
    pytest.importorskip("av")
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, size in zip(paths, ((31, 17), (31, 18)), strict=True):
        Image.new("RGB", size, (200, 100, 50)).save(path)
    write_video(paths[:1], tmp_path / "odd.mp4")
    ((_, frame),) = read_frames(tmp_path / "odd.mp4")
    assert frame.shape == (3, 18, 32)
    assert (
        frame[:, :17, :31].float().mean((1, 2)) - torch.tensor([200.0, 100, 50])
    ).abs().max() < 4
    with pytest.raises(InputError, match=r"31 x 18 pixels and .* 31 x 17"):
        write_video(paths, tmp_path / "two.mp4")
    with pytest.raises(OutputError, match=r"two\.mp4 could not be written"):
        write_video(paths[:1], paths[0] / "two.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png", "odd.mp4"]


@pytest.mark.parametrize("task", choices("task"))
def test_frames_are_searched_as_the_last_stage_of_their_task(task: str) -> None:
    if task == "ood_generation":
        return
    config = load_config(["input=clip", "output=out", f"task={task}", "follow=frames"])
    last, schedule = config.schedule.stages[-1], config.following
    assert schedule is not None
    stage, deviation = schedule.stages
    assert (last.solver, deviation) == ("proximal", last)
    assert stage == config.schedule.stages[-2].model_copy(update={"steps": 60})
