"""What is asked of the page becomes commands that run, and estimates that are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from ilo_pl.app.pictures import colour_residual, keep_mask, noise_level, plan
from ilo_pl.app.wish import FaceChoice, Wish, paste_command, prepare_commands, search_command
from ilo_pl.config.compose import load_config
from tests.conftest import command

GIVEN = [
    *("generator=tiny", "method.splits=[0,2]", "method.free_noises=4", "method.steps=2"),
    *("method.deviation.steps=0", "compile=false", "report=false", "logger=none"),
]
FACE = FaceChoice(eyes=(40.25, 50.0, 60.0, 51.5), mouth=(50.0, 70.0))


@pytest.mark.parametrize(
    ("wish", "painted", "operator"),
    [
        ({"task": "super_resolution", "size": 32, "factor": 4}, False, ["Bicubic"]),
        ({"task": "denoising", "size": 16, "sigma": 7.5}, False, ["Identity"]),
        ({"task": "colourisation", "size": 32, "answers": 2}, False, ["Grey"]),
        (
            {"task": "old_photo", "size": 32, "grey": True, "blur": 1.5, "sigma": 0.0},
            True,
            ["blur", "grey", "mask"],
        ),
        ({"task": "old_photo", "size": 32, "sigma": 9.0}, True, ["mask"]),
    ],
)
def test_every_task_runs_from_photo_to_photo(
    wish: dict[str, Any],
    painted: bool,
    operator: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(1).normal(size=(90, 110, 3))
    smooth = ndimage.gaussian_filter(noise, (5, 5, 0))
    pixels = (smooth / np.abs(smooth).max() * 120 + 128).astype(np.uint8)
    Image.fromarray(pixels).save("photo.png")
    if painted:
        mask = Image.new("L", (32, 32), 255)
        mask.paste(0, (8, 8, 12, 20))
        mask.save("given.png")
        keep_mask(tmp_path, Path("given.png").read_bytes(), 32)
    asked = Wish(**wish)
    searches = plan(asked, painted, GIVEN)
    assert len(searches) == asked.answers
    for arguments in prepare_commands(asked, "photo.png", FACE, painted):
        assert command(monkeypatch, *arguments) == 0
    for number, arguments in enumerate(searches, 1):
        config = load_config(arguments[1:])
        parts = getattr(config.operator, "parts", ())
        assert [p.name for p in parts] == operator or not parts
        noisy = asked.task == "denoising" or (asked.task == "old_photo" and asked.sigma > 0)
        assert config.noise.strength == (asked.sigma if noisy else 0)
        assert command(monkeypatch, *arguments) == 0
        assert command(monkeypatch, *paste_command(asked, "photo.png", number)) == 0
    restored = np.asarray(Image.open("restored/photo.png"))
    assert restored.shape == pixels.shape and (restored != pixels).any()
    assert (restored[0] == pixels[0]).all()
    if asked.answers == 2:
        other = np.asarray(Image.open("restored2/photo.png"))
        assert (other != restored).any()


def test_keys_of_the_one_who_started_the_app_come_first_and_a_quality_scales_steps() -> None:
    wish = Wish(task="colourisation", size=32, quality="thorough")
    (arguments,) = plan(wish, False, ["generator=tiny", "method.splits=[0,2]", "method.free_noises=4", "method.steps=[6,3]"])  # fmt: skip
    assert [a for a in arguments if a.startswith("method.steps")] == ["method.steps=[12,6]"]
    ours = search_command(wish, 1, False, ["generator.size=16", "method=csgm"])
    assert [a for a in ours if a.startswith(("method", "generator.size"))] == [
        "generator.size=16", "method=csgm",
    ]  # fmt: skip


def test_noise_and_missing_colours_are_seen() -> None:
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(3, 200, 200)), (0, 9, 9))
    clean = torch.from_numpy(smooth / np.abs(smooth).max() * 100 + 128).float()
    for sigma in (2.0, 10.0, 30.0):
        noisy = clean + sigma * torch.from_numpy(random.normal(size=clean.shape)).float()
        assert noise_level(noisy) == pytest.approx(sigma, rel=0.05)
    sepia = clean[:1] * torch.tensor([1.0, 0.85, 0.6])[:, None, None] + 5
    assert colour_residual(sepia) < 0.1 and colour_residual(clean) > 15
    assert colour_residual(torch.full((3, 8, 8), 7.0)) == 0


def test_what_was_painted_is_kept_at_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pixel of the mask is missing where a share of those below it was marked, and nowhere else but beside."""
    rows, columns = np.mgrid[:64, :64]
    centres = [(9, 12), (30, 41), (50, 20), (51, 58)]
    marked = np.any([np.hypot(rows - y, columns - x) < 2.6 for y, x in centres], axis=0)
    Image.fromarray(np.where(marked, 0, 255).astype(np.uint8)).save(tmp_path / "given.png")
    keep_mask(tmp_path, (tmp_path / "given.png").read_bytes(), 64)
    monkeypatch.chdir(tmp_path)
    wish = Wish(task="inpainting", size=16)
    assert command(monkeypatch, *prepare_commands(wish, "photo.png", FACE, True)[1]) == 0
    mask = np.asarray(Image.open("mask.png")) == 0
    under = marked.reshape(16, 4, 16, 4).mean((1, 3))
    assert mask[under > 0.1].all()
    assert not mask[~ndimage.binary_dilation(under > 0, np.ones((3, 3)))].any()
