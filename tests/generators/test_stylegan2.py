"""StyleGAN2 against a derivation from the paper's formulas, dense and in float64, and SciPy's filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch import Tensor
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.stylegan2.architecture import RESOLUTIONS, Architecture, channels_by_size
from ilo_pl.generators.stylegan2.layers import fir_kernel, fir_upsample, modulated_conv
from ilo_pl.generators.stylegan2.network import StyleGAN2

TAPS = np.array([1.0, 3.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def small() -> StyleGAN2:
    return StyleGAN2.random(
        32, channel_base=256, channel_max=12, dim=16, mapping_layers=3, conv_clamp=4.0, seed=1
    )


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_modulated(
    x: Tensor, weight: Tensor, styles: Tensor, up: bool, demodulate: bool
) -> Tensor:
    """Every image with its own weights, every output pixel as a sum; the filter by SciPy."""
    out = []
    gain = weight[0].numel() ** -0.5
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt() if demodulate else w * gain
        k = w.shape[-1]
        if up:
            height, width = image.shape[1:]
            big = torch.zeros(len(w), 2 * height + 1, 2 * width + 1, dtype=x.dtype)
            for i in range(height):
                for j in range(width):
                    stamp = (w * image[:, i, j][None, :, None, None]).sum(1)
                    big[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += stamp
            # The filter's gain of 4 makes up for the zeros.
            taps = TAPS / 4
            for axis in (-1, -2):
                full = upfirdn(taps, big.numpy(), axis=axis)
                # Full convolution has 3 values more; padding 1 and 1 leaves 2n of 2n + 4.
                big = torch.from_numpy(np.take(full, range(2, full.shape[axis] - 2), axis))
            out.append(big)
            continue
        pad = k // 2
        padded = F.pad(image, (pad,) * 4)
        rows = []
        for i in range(image.shape[1]):
            patches = [padded[:, i : i + k, j : j + k] for j in range(image.shape[2])]
            rows.append(torch.stack([(w * p).sum((1, 2, 3)) for p in patches], -1))
        out.append(torch.stack(rows, 1))
    return torch.stack(out)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(("size", "demodulate"), [(3, True), (1, False)])
def test_modulated_convolution(up: bool, size: int, demodulate: bool) -> None:
    if up and size == 1:
        size = 3
    x, weight, styles = draw(3, 5, 4, 6), draw(7, 5, size, size, seed=1), draw(3, 5, seed=2)
    kernel = fir_kernel().double() if up else None
    result = modulated_conv(x, weight, styles, kernel, demodulate=demodulate)
    expected = dense_modulated(x, weight, styles, up, demodulate)
    # Demodulation is in float32.
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_upsampling_is_scipys() -> None:
    x = draw(2, 3, 4, 5)
    result = fir_upsample(x, fir_kernel().double())
    expected = x.numpy()
    for axis in (-1, -2):
        full = upfirdn(TAPS / 4, expected, up=2, axis=axis)
        # 2(n - 1) + 4 values; the padding (2, 1) starts at the second and ends before the last.
        expected = np.take(full, range(1, full.shape[axis] - 1), axis)
    assert result.shape == (2, 3, 8, 10)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)


def reference(network: StyleGAN2, z: Tensor) -> Tensor:
    """The whole generator again, in float64, from its state dictionary alone."""
    p = {n: v.double() for n, v in network.state_dict().items()}

    def dense(name: str, x: Tensor, lr: float = 1.0) -> Tensor:
        w = p[f"{name}.weight"]
        return x @ (w * lr / np.sqrt(w.shape[1])).T + p[f"{name}.bias"] * lr

    def act(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x) * np.sqrt(2)

    w = z / (z.square().mean(-1, keepdim=True) + 1e-8).sqrt()
    for i in range(3):
        w = act(dense(f"mapping.fc{i}", w, 0.01))

    def layer(name: str, x: Tensor, up: bool) -> Tensor:
        x = dense_modulated(x, p[f"{name}.weight"], dense(f"{name}.affine", w), up, True)
        x = x + p[f"{name}.noise_const"] * p[f"{name}.noise_strength"]
        return act(x + p[f"{name}.bias"][:, None, None]).clamp(-4, 4)

    x = p["synthesis.b4.const"].expand(len(z), -1, -1, -1)
    rgb = None
    for size in (4, 8, 16, 32):
        block = f"synthesis.b{size}"
        if size > 4:
            x = layer(f"{block}.conv0", x, True)
        x = layer(f"{block}.conv1", x, False)
        styles = dense(f"{block}.torgb.affine", w)
        y = dense_modulated(x, p[f"{block}.torgb.weight"], styles, False, False)
        y = (y + p[f"{block}.torgb.bias"][:, None, None]).clamp(-4, 4)
        rgb = y if rgb is None else fir_upsample(rgb, fir_kernel().double()) + y
    assert rgb is not None
    return rgb


def test_the_whole_network(small: StyleGAN2) -> None:
    z = draw(2, 16)
    image = small(z.float())
    # The clamp does something here, and the colours do not all hit it.
    assert float(image.abs().max()) > 1
    torch.testing.assert_close(image.double(), reference(small, z), atol=2e-4, rtol=1e-4)


def test_published_names_and_shapes() -> None:
    network = StyleGAN2(Architecture(resolution=1024, channels=channels_by_size(1024)))
    shapes = {n: tuple(v.shape) for n, v in network.state_dict().items()}
    assert shapes["synthesis.b4.const"] == (512, 4, 4)
    assert shapes["synthesis.b64.conv0.weight"] == (512, 512, 3, 3)
    assert shapes["synthesis.b128.conv0.weight"] == (256, 512, 3, 3)
    assert shapes["synthesis.b1024.conv0.affine.weight"] == (64, 512)
    assert shapes["synthesis.b1024.conv1.noise_const"] == (1024, 1024)
    assert shapes["synthesis.b1024.conv1.noise_strength"] == ()
    assert shapes["synthesis.b1024.torgb.weight"] == (3, 32, 1, 1)
    assert shapes["synthesis.b8.resample_filter"] == shapes["synthesis.b8.conv1.resample_filter"]
    assert shapes["mapping.fc7.weight"] == (512, 512)
    assert (network.num_slots, len(network.noise_shapes)) == (18, 17)
    # Of NVIDIA's config-f generator at 1024 x 1024.
    assert sum(p.numel() for p in network.parameters()) == 30_370_060
    assert channels_by_size(256, 16384) == (512, 512, 512, 512, 256, 128, 64)
    with pytest.raises(ConfigurationError, match="2048"):
        StyleGAN2(Architecture(resolution=2048, channels=channels_by_size(2048)))


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_every_resolution(resolution: int) -> None:
    network = StyleGAN2.random(
        resolution, channel_base=4096, channel_max=4, dim=8, mapping_layers=1
    )
    # W+ of 1024 x 1024 has 18 styles, and two less for each halving.
    halvings = int(np.log2(1024 // resolution))
    assert network.num_slots == 18 - 2 * halvings
    assert network.last == 9 - halvings
    assert network(torch.zeros(1, 8)).shape == (1, 3, resolution, resolution)


def test_splits_compose_bit_for_bit_and_need_the_skip(small: StyleGAN2) -> None:
    styles = draw(2, small.num_slots, 16).float()
    noises = [draw(2, *shape, seed=3).float() for shape in small.noise_shapes]
    whole = small.run({}, styles, list(noises))["image"]
    for k in range(1, small.last + 1):
        split = small.splits[k]
        state = small.run({}, styles, list(noises), 0, k)
        assert {n: tuple(t.shape[1:]) for n, t in state.items()} == dict(split.shapes)
        rest = (styles[:, split.first_slot :], list(noises[split.first_noise :]), k)
        assert torch.equal(small.run(state, *rest)["image"], whole)
        if "rgb" in state:
            state["rgb"] = torch.zeros_like(state["rgb"])
            assert not torch.allclose(small.run(state, *rest)["image"], whole, atol=1e-2)


def test_latents(small: StyleGAN2) -> None:
    z = draw(2, 1, 16).float()
    w = small.to_styles(z, "z")
    assert torch.equal(small(w, "w"), small(z))
    torch.testing.assert_close(small.from_normal(z, "w"), w)
    assert torch.equal(small.from_normal(0 * z, "w")[0, 0], small.mapping.w_avg)
    short = StyleGAN2.random(32, channel_base=256, channel_max=12, dim=16, mapping_layers=3, seed=1)
    short.truncation = 0.7
    expected = small.mapping.w_avg * 0.3 + w * 0.7
    torch.testing.assert_close(short.to_styles(z, "z"), expected)


def test_zero_steps_keep_the_image(small: StyleGAN2, fit) -> None:  # type: ignore[no-untyped-def]
    operator = Mask.random(small.image_shape, 0.5, 0, ["a"])
    schedule = Schedule(
        stages=tuple({"split": k, "steps": 1 if k == 0 else 0} for k in range(small.last)),
        latent_space="w",
    )
    task = InverseTask(
        small, operator, torch.zeros(1, *operator.measurement_shape), schedule=schedule, ids=["a"]
    )
    result: ILOInversion = fit(task)
    stages = [record.image for record in result.results["a"].stages]
    assert len(stages) == small.last
    assert all(torch.equal(image, stages[0]) for image in stages)
