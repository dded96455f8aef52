"""Every StyleGAN2 that NVIDIA's code can build, against a float64 derivation of the published formulas.

The derivation starts from the tensors and constructor arguments of the file. It doubles sizes by zeros
between the pixels, the filter, then the convolution (the network itself convolves first), one image and one
weight at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.signal import convolve2d
from torch import Tensor
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule
from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.check import check_generator
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.generators.stylegan2.checkpoint import read_checkpoint
from ilo_pl.generators.stylegan2.convert import convert_stylegan2
from ilo_pl.generators.stylegan2.network import StyleGAN2
from tests.generators.foreign_files import Built, write_nvidia

SMALL: dict[str, Any] = {"channel_base": 128, "channel_max": 6, "dim": 8, "mapping_layers": 2}
ROOT = np.sqrt(2)
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (lambda x: x, 1),
    "relu": (lambda x: x.clamp(min=0), ROOT),
    "lrelu": (lambda x: torch.maximum(x, 0.2 * x), ROOT),
    "tanh": (lambda x: 1 - 2 / (1 + (2 * x).exp()), 1),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), 1),
    "elu": (lambda x: torch.where(x > 0, x, x.exp() - 1), 1),
    "selu": (
        lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1)),
        1,
    ),
    "softplus": (lambda x: (1 + x.exp()).log(), 1),
    "swish": (lambda x: x / (1 + (-x).exp()), ROOT),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics of w are not what is tested here."""
    monkeypatch.setattr("ilo_pl.generators.stylegan2.network.V_SAMPLES", 200)


class Derivation:
    """The generator again, from the tensors of a file and what its constructors were told."""

    def __init__(self, state: dict[str, Tensor], built: Built) -> None:
        self.p = {n: v.double() for n, v in state.items()}
        self.built = built

    def dense(self, name: str, x: Tensor, lr: float = 1.0) -> Tensor:
        weight = self.p[f"{name}.weight"]
        return x @ weight.T * (lr / np.sqrt(weight.shape[1])) + self.p[f"{name}.bias"] * lr

    def mapping(self, z: Tensor, label: Tensor | None) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        if label is not None:
            y = self.dense("mapping.embed", label.double())
            x = torch.cat([x, y / (y.square().mean(1, keepdim=True) + 1e-8).sqrt()], 1)
        function, gain = FUNCTIONS[self.built.mapping_activation]
        layers = sum(n.startswith("mapping.fc") and n.endswith("weight") for n in self.p)
        for i in range(layers):
            x = function(self.dense(f"mapping.fc{i}", x, self.built.lr)) * gain
        return x

    def up(self, x: Tensor, kernel: Tensor, extra: int) -> Tensor:
        """Zeros between the pixels, ``extra`` pixels around, and the filter of gain 4; ``(C, h, w)``."""
        if kernel.ndim == 1:
            kernel = kernel[:, None] * kernel[None]
        rows, columns = kernel.shape
        big = torch.zeros(len(x), 2 * x.shape[1], 2 * x.shape[2], dtype=x.dtype)
        big[:, ::2, ::2] = x
        sides = [
            extra + (columns + 1) // 2,
            extra + (columns - 2) // 2,
            extra + (rows + 1) // 2,
            extra + (rows - 2) // 2,
        ]
        planes = [convolve2d(c.numpy(), 4 * kernel.numpy(), "valid") for c in F.pad(big, sides)]
        return torch.from_numpy(np.stack(planes))

    def convolution(self, name: str, x: Tensor, w: Tensor, up: bool) -> Tensor:
        """Modulated 3 x 3 convolution, noise, bias, activation; without the gain."""
        styles, weight = self.dense(f"{name}.affine", w), self.p[f"{name}.weight"]
        out = []
        for features, style in zip(x, styles, strict=True):
            image = features
            own = weight * style[:, None, None]
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if up:
                image = self.up(image, self.p[f"{name}.resample_filter"], 1)
                own = own.flip(2, 3)
            out.append(F.conv2d(image[None], own, padding=0 if up else 1)[0])
        y = torch.stack(out)
        if f"{name}.noise_strength" in self.p:
            y = y + self.p[f"{name}.noise_const"] * self.p[f"{name}.noise_strength"]
        return FUNCTIONS[self.built.activation][0](y + self.p[f"{name}.bias"][:, None, None])

    def clamp(self, x: Tensor, gain: float = 1.0) -> Tensor:
        limit = self.built.clamp
        return x * gain if limit is None else (x * gain).clamp(-limit * gain, limit * gain)

    def layer(self, name: str, x: Tensor, w: Tensor, up: bool = False, gain: float = 1.0) -> Tensor:
        function_gain = FUNCTIONS[self.built.activation][1]
        return self.clamp(self.convolution(name, x, w, up) * function_gain, gain)

    def colours(self, block: str, x: Tensor, w: Tensor) -> Tensor:
        weight = self.p[f"{block}.torgb.weight"]
        styles = self.dense(f"{block}.torgb.affine", w) / np.sqrt(weight.shape[1])
        y = torch.einsum("oi,bi,bihw->bohw", weight[..., 0, 0], styles, x)
        return self.clamp(y + self.p[f"{block}.torgb.bias"][:, None, None])

    def image(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        w = self.mapping(z, label)
        x = self.p["synthesis.b4.const"].expand(len(z), -1, -1, -1)
        rgb = None
        sizes = sorted({int(n.split(".")[1][1:]) for n in self.p if n.startswith("synthesis.b")})
        for size in sizes:
            block = f"synthesis.b{size}"
            kernel = self.p[f"{block}.resample_filter"]
            if size == 4:
                x = self.layer(f"{block}.conv1", x, w)
            elif self.built.kind == "resnet":
                weight = self.p[f"{block}.skip.weight"]
                y = torch.einsum("oi,bihw->bohw", weight[..., 0, 0], x) / np.sqrt(weight.shape[1])
                y = torch.stack([self.up(i, self.p[f"{block}.skip.resample_filter"], 0) for i in y])
                x = self.layer(f"{block}.conv0", x, w, up=True)
                x = self.layer(f"{block}.conv1", x, w, gain=np.sqrt(0.5)) + y * np.sqrt(0.5)
            else:
                x = self.layer(f"{block}.conv0", x, w, up=True)
                x = self.layer(f"{block}.conv1", x, w)
            if rgb is not None:
                rgb = torch.stack([self.up(image, kernel, 0) for image in rgb])
            if self.built.kind == "skip" or size == sizes[-1]:
                y = self.colours(block, x, w)
                rgb = y if rgb is None else rgb + y
        assert rgb is not None
        return rgb


def taps(*values: float) -> Tensor:
    """A filter as NVIDIA's constructor keeps it: a square, or one row from eight taps on."""
    row = torch.tensor(values)
    row = row / row.sum()
    return row if len(values) >= 8 else torch.outer(row, row)


# Options of the random network, what its constructors were told, the filter.
CASES: dict[str, tuple[dict[str, Any], Built, Tensor | None]] = {
    "32": ({"resolution": 32}, Built(), None),
    "16": ({}, Built(), None),
    "8": ({"resolution": 8}, Built(), None),
    "4": ({"resolution": 4}, Built(), None),
    "learning rate 0.1": ({}, Built(lr=0.1), None),
    "learning rate 1": ({}, Built(lr=1.0), None),
    "z of another size": ({"z_dim": 12}, Built(), None),
    "narrow mapping": ({"layer_features": 5, "z_dim": 3, "mapping_layers": 3}, Built(), None),
    "classes": ({"classes": 4, "embed_features": 8}, Built(), None),
    "classes of few numbers": ({"classes": 3, "embed_features": 2, "z_dim": 6}, Built(), None),
    "grey": ({"colours": 1}, Built(), None),
    "transparency": ({"colours": 4}, Built(), None),
    "no noise": ({"use_noise": False}, Built(), None),
    "orig": ({}, Built(kind="orig"), None),
    "orig at 4": ({"resolution": 4}, Built(kind="orig"), None),
    "resnet": ({}, Built(kind="resnet"), None),
    "resnet, clamped": ({}, Built(kind="resnet", clamp=0.7), None),
    "skip, clamped": ({}, Built(clamp=0.7), None),
    **{
        f"{name}": ({}, Built(activation=name, mapping_activation=name), None) for name in FUNCTIONS
    },
    "relu, then swish": ({}, Built(activation="swish", mapping_activation="relu"), None),
    **{
        f"{len(row)} taps, {kind}": ({}, Built(kind=kind), taps(*row))
        for kind, row in [
            ("skip", (1,)),
            ("resnet", (1, 2)),
            ("skip", (1, 3, 5)),
            ("skip", (1, 2, 4, 8)),
            ("resnet", (3, 2, 5, 4, 1)),
            ("orig", (1, 5, 2, 4, 2, 1)),
            ("resnet", (1, 2, 9, 7, 5, 4, 2, 1)),
        ]
    },
    "2 x 3 taps": ({}, Built(), torch.tensor([[0.1, 0.3, 0.2], [0.05, 0.15, 0.2]])),
}


def tensors_of(options: dict[str, Any], built: Built, kernel: Tensor | None) -> dict[str, Tensor]:
    """Random tensors under NVIDIA's names."""
    random = StyleGAN2.random(
        **{"resolution": 16, "mapping_lr": built.lr, "kind": built.kind, **SMALL, **options}, seed=3
    )
    state = {n: v for n, v in random.state_dict().items() if not n.startswith("v_")}
    if kernel is not None:
        state |= {n: kernel for n in state if n.endswith("resample_filter")}
    return state


@pytest.mark.parametrize("name", CASES)
def test_images_are_those_of_the_formulas(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, built, kernel = CASES[name]
    state = tensors_of(options, built, kernel)
    path = write_nvidia(tmp_path / "n.pkl", state, monkeypatch, built)
    classes = options.get("classes", 0)
    network = StyleGAN2.pretrained(path, class_index=1 if classes else None)
    z = torch.randn(2, network.latent_dim, generator=torch.Generator().manual_seed(5))
    label = torch.eye(classes)[[1, 1]] if classes else None
    expected = Derivation(state, built).image(z.double(), label)
    expected = expected[:, :3].expand(-1, 3, -1, -1)
    scale = float(expected.abs().max())
    assert float((network(z).double() - expected).abs().max()) < 1e-5 * max(scale, 1)
    assert float(expected.std()) > 0.01
    assert [check for check in check_generator(network) if not check.passed] == []
    converted = convert_stylegan2(path, "CC0")
    converted.save(tmp_path / "own.safetensors")
    own = StyleGAN2.pretrained(tmp_path / "own.safetensors", class_index=network.class_index)
    assert own.architecture == network.architecture
    assert torch.equal(own(z), network(z))
    assert torch.equal(own.v_std, network.v_std)


@pytest.mark.parametrize("key", ["G_ema", None])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_every_way_of_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, compress: bool, protocol: int
) -> None:
    state = tensors_of({"resolution": 8}, Built(), None)
    path = write_nvidia(
        tmp_path / "n.pkl", state, monkeypatch, key=key, compress=compress, protocol=protocol
    )
    read = read_checkpoint(path)
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[n], v) for n, v in state.items())


BUILT = Built(lr=0.1)
# What a module was told otherwise, and the word of the refusal.
OTHERWISE: dict[str, tuple[Built, str]] = {
    "layers of different rates": (
        replace(BUILT, extra={"mapping.fc1": {"bias_gain": 0.2}}),
        "learning rates",
    ),
    "weights scaled otherwise": (
        replace(BUILT, extra={"mapping.fc1": {"weight_gain": 0.2}}),
        "mapping.fc1 has weight_gain = 0.2",
    ),
    "styles scaled otherwise": (
        replace(BUILT, extra={"synthesis.b8.conv1.affine": {"bias_gain": 2}}),
        "affine has bias_gain = 2",
    ),
    "colours scaled otherwise": (
        replace(BUILT, extra={"synthesis.b8.torgb": {"weight_gain": 1.0}}),
        "torgb has weight_gain",
    ),
    "a gain of its own": (
        replace(BUILT, extra={"synthesis.b8.conv1": {"act_gain": 1.0}}),
        "act_gain = 1.0",
    ),
    "one activation of another kind": (
        replace(BUILT, extra={"synthesis.b8.conv1": {"activation": "relu"}}),
        "activations",
    ),
    "an unknown activation": (replace(BUILT, activation="mish"), "'mish'"),
    "clamps that differ": (
        replace(BUILT, extra={"synthesis.b8.conv1": {"conv_clamp": 3.0}}),
        "clamps",
    ),
    "an attribute of another code": (
        replace(BUILT, extra={"mapping": {"normalize_latents": False}}),
        "'normalize_latents'",
    ),
    "an argument of another code": (
        replace(BUILT, kwargs={"mapping_kwargs": {"layer_multiplier": 2}}),
        "layer_multiplier",
    ),
    "noise that is off in one layer": (
        replace(BUILT, extra={"synthesis.b8.conv1": {"use_noise": False}}),
        "use_noise",
    ),
    "a residual block by name": (replace(BUILT, kind="dense"), "'dense'"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_not_read_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, message = OTHERWISE[name]
    state = tensors_of({"resolution": 8}, BUILT, None)
    path = write_nvidia(tmp_path / "n.pkl", state, monkeypatch, built)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_an_attribute_that_is_missing_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tensors_of({"resolution": 8}, BUILT, None)
    data = write_nvidia(tmp_path / "n.pkl", state, monkeypatch, BUILT).read_bytes()
    (tmp_path / "n.pkl").write_bytes(data.replace(b"bias_gain", b"_ias_gain"))
    with pytest.raises(WeightsError, match="bias_gain"):
        read_checkpoint(tmp_path / "n.pkl")


def test_files_of_the_first_format_are_still_read(tmp_path: Path) -> None:
    network = StyleGAN2.random(16, conv_clamp=2.0, **SMALL)
    state = {n: v.contiguous() for n, v in network.state_dict().items()}
    metadata = {"format": "ilo_pl.stylegan2/1", "architecture": "stylegan2", "conv_clamp": "2.0"}
    safetensors.torch.save_file(state, tmp_path / "old.safetensors", metadata)
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(StyleGAN2.pretrained(tmp_path / "old.safetensors")(z), network(z))
    for network_of in ("", "[" * 5000, '{"resolution": 16, "channels": [20000, 4, 4]}', "{}"):
        bad = {"format": "ilo_pl.stylegan2/2", "network": network_of}
        safetensors.torch.save_file(state, tmp_path / "bad.safetensors", bad)
        with pytest.raises(WeightsError, match="does not say what its network is built of"):
            StyleGAN2.pretrained(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("width", [20_000, 4096])
def test_channels_that_are_only_declared_take_no_memory(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tensors_of({"resolution": 8}, Built(), None)
    state["synthesis.b8.conv1.weight"] = torch.zeros(width, 1, 1, 1)
    path = write_nvidia(tmp_path / "n.pkl", state, monkeypatch)
    with pytest.raises(WeightsError, match=r"channels\.1 = 20000|has shape \(6,\) in place of"):
        StyleGAN2.pretrained(path)


@pytest.fixture(scope="module")
def with_classes() -> StyleGAN2:
    return StyleGAN2.random(8, classes=4, embed_features=5, z_dim=7, **SMALL)


def test_the_class_is_searched_or_fixed(
    with_classes: StyleGAN2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {n: v for n, v in with_classes.state_dict().items() if not n.startswith("v_")}
    path = write_nvidia(tmp_path / "n.pkl", state, monkeypatch)
    fixed = GeneratorConfig(name="stylegan2", weights=str(path), class_index=2).make(imports=False)
    assert (with_classes.latent_dim, fixed.latent_dim) == (12, 7)
    assert (with_classes.latent_size("w"), fixed.latent_size("v")) == (8, 8)
    z = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    # The embedding of a class, standardised over the classes, by NVIDIA's formula.
    table = state["mapping.embed.weight"].T / np.sqrt(4) + state["mapping.embed.bias"]
    u = (table[2] - table.mean(0)) / (table - table.mean(0)).square().mean(0).sqrt()
    both = torch.cat([z, u.expand(3, -1)], 1)
    torch.testing.assert_close(with_classes(both), fixed(z), atol=1e-5, rtol=1e-5)
    for index in (4, -1):
        with pytest.raises(ConfigurationError, match=r"class"):
            StyleGAN2.pretrained(path, class_index=index)
    for name in ("tiny", "mobilestylegan_ffhq"):
        with pytest.raises(ConfigurationError, match="has no classes"):
            GeneratorConfig(name=name, class_index=0).make(imports=False)
    with pytest.raises(ConfigurationError, match="the network has no classes"):
        StyleGAN2.random(8, class_index=0, **SMALL)


@pytest.mark.parametrize("space", ["z", "v", "w"])
@pytest.mark.parametrize("init", ["random", "mean"])
def test_a_search_of_latents_of_another_size(
    with_classes: StyleGAN2,
    fit: Callable[..., ILOInversion],
    space: str,
    init: str,
) -> None:
    operator = Mask.random(with_classes.image_shape, 0.5, 0, ["a"])
    schedule = Schedule(
        stages=({"split": 0, "steps": 2}, {"split": 1, "steps": 1}), latent_space=space, init=init
    )
    task = InverseTask(
        with_classes,
        operator,
        torch.zeros(1, *operator.measurement_shape),
        schedule=schedule,
        ids=["a"],
    )
    result = fit(task).results["a"]
    assert result.image.shape == (3, 8, 8)
    assert torch.isfinite(result.image).all()
