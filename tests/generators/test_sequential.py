from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ilo_pl import ILOInversion, InverseTask, Mask, load_method
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators import SequentialGenerator, TinyGenerator, make_generator
from ilo_pl.generators.base import SplitGenerator, State
from ilo_pl.generators.check import check_generator
from tests.conftest import command


def decoder() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(6, 4 * 4 * 4), nn.Unflatten(1, (4, 4, 4))),
        nn.Sequential(nn.ConvTranspose2d(4, 5, 4, 2, 1), nn.BatchNorm2d(5), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(5, 4, 4, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid()),
    ]


def test_a_grey_decoder_of_unit_range() -> None:
    modules = decoder()
    generator = SequentialGenerator(modules, latent=6, splits=[1, 3], output_range=(0, 1))
    assert [dict(s.shapes) for s in generator.splits] == [
        {},
        {"features": (4, 4, 4)},
        {"features": (4, 16, 16)},
        {"image": (3, 16, 16)},
    ]
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    expected = nn.Sequential(*modules)(z) * 2 - 1
    torch.testing.assert_close(generator(z), expected.repeat(1, 3, 1, 1))
    assert not any(p.requires_grad for m in modules for p in m.parameters())
    assert all(check.passed for check in check_generator(generator))


def test_latents_with_a_shape_and_colours() -> None:
    torch.manual_seed(0)
    modules = [nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1)]
    generator = SequentialGenerator(modules, latent=(2, 5, 7))
    assert (generator.latent_dim, generator.image_shape, generator.last) == (70, (3, 5, 7), 3)
    z = torch.randn(2, 1, 70)
    assert torch.equal(generator(z), nn.Sequential(*modules)(z.view(2, 2, 5, 7)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 5}, "does not take"),
        ({"latent": 0}, "positive size"),
        ({"latent": 6, "splits": [2, 1]}, "do not cut"),
        ({"latent": 6, "splits": [4]}, "do not cut"),
        ({"latent": 6, "output_range": (1, 0)}, "lower end"),
    ],
)
def test_what_cannot_be_wrapped(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SequentialGenerator(decoder(), **options)
    with pytest.raises(ConfigurationError, match="for an image"):
        SequentialGenerator(decoder()[:2], latent=6)


@pytest.mark.parametrize("method", ["csgm", "ilo", "pulse", "sparse_gen"])
def test_every_method_works_on_it(method: str, fit: Callable[..., ILOInversion]) -> None:
    generator = SequentialGenerator(decoder(), latent=6, output_range=(0, 1))
    given = generator(torch.randn(2, 6, generator=torch.Generator().manual_seed(1)))
    operator = Mask.random(generator.image_shape, 0.5, 0, ["a", "b"])
    columns: dict[str, Any] = {"steps": 3}
    if method == "ilo":
        columns |= {"splits": [0, 1, 2, 3], "reencode": {"steps": 2}}
    schedule = load_method(method, **columns)
    task = InverseTask(
        generator, operator, operator(given), schedule=schedule, ids=["a", "b"], batch_size=2
    )
    results = fit(task).results
    assert all(r.image.shape == generator.image_shape for r in results.values())
    for result in results.values():
        losses = [float(stage.loss[0]) for stage in result.stages]
        assert all(torch.isfinite(torch.tensor(losses)))


class Broken(SplitGenerator):
    """The tiny generator, with one promise broken."""

    latent_spaces = TinyGenerator.latent_spaces

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.whole = whole = TinyGenerator()
        self.splits, self.noise_shapes = whole.splits, whole.noise_shapes
        self.latent_dim, self.num_slots = whole.latent_dim, whole.num_slots

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        return self.whole.from_normal(normal, space)

    def stored_noise(self, index: int) -> Tensor:
        return self.whole.stored_noise(index)

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        if self.fault == "drops the skip" and k == 2:
            state = {**state, "rgb": state["rgb"].detach()}
        out = self.whole.block(k, state, styles, noises)
        if k == 2:
            x = out["features"]
            if self.fault == "random":
                x = x + torch.rand_like(x)
            elif self.fault == "batch":
                x = x - x.mean(0, keepdim=True)
            elif self.fault == "shape":
                x = x[:, :4].repeat(1, 3, 1, 1)[:, :8, :8]
            elif self.fault == "count":
                self.runs = getattr(self, "runs", 0) + 1
                x = x + self.runs
            out["features"] = x
        return out

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        styles = self.whole.to_styles(latents, space)
        return styles[..., :8] if self.fault == "styles" and space == "v" else styles


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ("drops the skip", "gradients reach"),
        ("random", "same input"),
        ("batch", "does not depend on its batch"),
        ("shape", "declared shapes"),
        ("count", "bit for bit"),
        ("styles", "same shape in every space"),
    ],
)
def test_the_checker_finds_what_is_broken(fault: str, failing: str) -> None:
    failed = [check.name for check in check_generator(Broken(fault)) if not check.passed]
    assert any(failing in name for name in failed), failed
    assert all(check.passed for check in check_generator(Broken("")))


MODULE = """
from torch import nn
from ilo_pl.generators import SequentialGenerator

def make(weights, seed):
    return SequentialGenerator(
        [nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8))], latent=4, output_range=(0, 1))

def forgetful(weights, seed):
    return SequentialGenerator([nn.Unflatten(1, (1, 8, 8)), nn.Threshold(9, 0)], latent=64)

def narrow():
    return None

def wrong(weights, seed):
    return nn.Linear(4, 4)
"""


def test_check_generator_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "their_generators.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "check-generator", "tiny") == 0
    assert command(monkeypatch, "check-generator", "their_generators:make") == 0
    assert "FAIL" not in capsys.readouterr().out
    assert command(monkeypatch, "check-generator", "their_generators:forgetful") == 1
    assert "FAIL gradients reach every variable: split 0" in capsys.readouterr().out
    for name, message in (
        ("their_generators:wrong", "returned a Linear"),
        ("their_generators:narrow", "too many positional arguments"),
        ("their_generators:none", "cannot be used"),
        ("nowhere:make", "cannot be used"),
        ("stylegan2", "generator.weights"),
        ("stylegam2", "Did you mean 'stylegan2'"),
    ):
        assert command(monkeypatch, "check-generator", name) == 2
        assert message in capsys.readouterr().err


def test_a_name_from_a_file_is_never_imported() -> None:
    with pytest.raises(ConfigurationError, match="os:abort is code that a file names"):
        make_generator("os:abort")


def test_a_generator_of_ones_own_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_generator.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    picture = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    Image.fromarray(picture).convert("RGB").save("photo.png")
    run = ["invert", "input=photo.png", "output=out", "task=random_inpainting", "method=ilo"]
    run += ["method.splits=[0,1]", "method.steps=2", "method.free_noises=0"]
    run += ["generator=custom", "trainer.precision=32-true"]
    assert command(monkeypatch, *run) == 2
    assert "generator.name" in capsys.readouterr().err
    assert command(monkeypatch, *run, "generator.name=own_generator:make") == 0
    latents = "out/latents/photo.safetensors"
    assert command(monkeypatch, "render", latents, "again.png") == 2
    assert "own_generator:make" in capsys.readouterr().err
    own = ["--generator", "own_generator:make"]
    assert command(monkeypatch, "render", latents, "again.png", *own) == 0
    # The folder of a run is a file of results too.
    theory = ["theory", "output=bounds", "run=out", "counts=[4]", "images=2", "trials=1", "split=1"]
    theory += ["matrices=[circulant]"]
    assert command(monkeypatch, *theory) == 2
    assert "is code that a file names" in capsys.readouterr().err
    assert command(monkeypatch, *theory, "generator=own_generator:make") == 0
    again = Image.open("again.png").convert("RGB").tobytes()
    assert again == Image.open("out/reconstructions/photo.png").convert("RGB").tobytes()
