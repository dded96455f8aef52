"""A generator's picture, reduced: the contract, the picture itself, runs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ilo_pl import InverseTask, Resized, Schedule, Stage, TinyGenerator, load_image, render
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators import SequentialGenerator
from ilo_pl.generators.check import check_generator
from ilo_pl.generators.resized import size_of, with_size
from ilo_pl.inversion.compilation import Synthesizer
from ilo_pl.inversion.identity import fingerprint
from ilo_pl.operators import Identity
from ilo_pl.operators.separable import Separable
from ilo_pl.runs.latents import load_point
from tests.conftest import command

FAST = ["method.splits=[0,2]", "method.steps=3", "method.free_noises=4", "logger=none"]
FAST += ["method.deviation.steps=2"]
Z = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))


def test_its_picture_is_the_reduction_of_the_generators(tiny: TinyGenerator) -> None:
    for size, factor in ((32, 1), (16, 2), (8, 4), (1, 32)):
        expected = Separable.bicubic((3, 32, 32), factor)(tiny(Z))
        assert torch.equal(Resized(tiny, size)(Z), expected)
    with torch.autocast("cpu", torch.bfloat16):
        reduced, whole = Resized(tiny, 16)(Z), tiny(Z)
    assert reduced.dtype == torch.float32
    assert torch.equal(reduced, Separable.bicubic((3, 32, 32), 2)(whole.float()))


def test_it_keeps_the_contract(tiny: TinyGenerator) -> None:
    resized = Resized(tiny, 16)
    problems = [c for c in check_generator(resized) if not c.passed]
    assert problems == []
    assert resized.splits[:-1] == tiny.splits[:-1]
    assert resized.image_shape == (3, 16, 16)
    assert (resized.skip_states, resized.latent_spaces) == (tiny.skip_states, tiny.latent_spaces)


def test_of_images_that_are_not_square_the_size_is_the_shorter_side() -> None:
    layers = [nn.Sequential(nn.Linear(4, 3 * 6 * 9), nn.Unflatten(1, (3, 6, 9)))]
    wide = SequentialGenerator(layers, latent=4)
    assert Resized(wide, 2).image_shape == (3, 2, 3)
    assert [size_of(wide, size) for size in ((3, 2), (9, 6), (2, 3), (6, 4))] == [2, 6, None, None]
    with pytest.raises(ConfigurationError, match=r"pictures of 9 x 6, .*\nChoices: 6, 2\."):
        Resized(wide, 3)


@pytest.mark.parametrize("size", [64, 20, 0])
def test_other_sizes_are_refused_with_the_choices(tiny: TinyGenerator, size: int) -> None:
    with pytest.raises(ConfigurationError, match=r"Choices: 32, 16, 8, 4, 2, 1\."):
        with_size(tiny, size)
    assert with_size(tiny, None) is with_size(tiny, 32) is tiny


def test_compiled_and_by_identity(tiny: TinyGenerator) -> None:
    """Work is judged by the pictures that are computed; a checkpoint of another size is another search's."""
    schedule = Schedule(stages=[Stage(split=0, steps=1), Stage(split=4, steps=1)])
    found = set()
    for generator in (tiny, Resized(tiny, 16), Resized(tiny, 8)):
        given = torch.zeros(1, *generator.image_shape)
        task = InverseTask(generator, Identity(generator.image_shape), given, schedule=schedule)
        assert task.generator.computed_pixels == 32 * 32
        found.add(fingerprint(task.source.load((0,)), task)["generator"])
    assert len(found) == 3
    synthesizer = Synthesizer(task, mode=True)
    styles = tiny.to_styles(Z[:1, None], "z").expand(-1, 4, -1)
    image = synthesizer({}, styles, [None] * 4, 0, 4)["image"]
    assert torch.allclose(image, task.generator.run({}, styles, [None] * 4)["image"], atol=1e-5)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_run_at_another_size_and_its_latents(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again.png"
    keys = ["generator=tiny", "task=random_inpainting", *FAST]
    assert command(monkeypatch, "invert", f"input={photo}", f"output={out}", *keys) == 2
    assert "generator.size=16 makes images of this size" in capsys.readouterr().err
    keys += [f"reference={photo}", "save_measurements=true"]
    assert (
        command(
            monkeypatch, "invert", f"input={photo}", f"output={out}", *keys, "generator.size=16"
        )
        == 0
    )
    saved, latents = out / "reconstructions" / "photo.png", out / "latents" / "photo.safetensors"
    assert load_image(saved).rgb.shape == (3, 16, 16)
    assert command(monkeypatch, "render", str(latents), str(again)) == 0
    assert np.array_equal(Image.open(again), Image.open(saved))
    assert (
        command(monkeypatch, "render", str(latents), str(tmp_path / "large.png"), "--size", "32")
        == 0
    )
    # Beside the generator's picture nothing is left at another size.
    generator, (point, about) = TinyGenerator(0), load_point(latents)
    own = render(generator, point.bare(), about["space"])[0]
    assert (own - load_image(tmp_path / "large.png").rgb).abs().max() < 1 / 127.5
    # It goes on at its own size only, and its measurements say which that is.
    capsys.readouterr()
    assert command(monkeypatch, "invert", f"output={out}", "resume=true") == 0
    changed = ["resume=true", "generator.size=8"]
    assert command(monkeypatch, "invert", f"output={out}", *changed) == 2
    measured = [f"input={out}/measurements", f"output={tmp_path}/new", "generator=tiny", *FAST]
    assert command(monkeypatch, "invert", *measured) == 2
    assert "generator.size=16 makes images of this size" in capsys.readouterr().err
