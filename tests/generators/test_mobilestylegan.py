"""The shipped generator against values computed with OpenVINO from the original files, in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators.latents import v_statistics, v_to_w, w_to_v
from ilo_pl.generators.mobilestylegan import MobileStyleGAN, inverse_haar
from ilo_pl.weights.load import load_weights

STRENGTHS = [0.0049, 0.0155, 0.0039, 0.0045, 0.0026, 0.0032, 0.0767, 0.0045, 0.0033, 0.2512, 0.0004]
STRENGTHS += [0.0841, 0.0001, 0.0007, 0.0002]


@pytest.fixture(scope="module")
def z() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((1, 512))).float()


def test_mapping_network(real: MobileStyleGAN, z: Tensor) -> None:
    w = real.to_styles(z[:, None], "z")[0, 0, :4]
    # float16 weights move w by up to 1e-3.
    torch.testing.assert_close(
        w, torch.tensor([-0.0557, 1.0089, 0.6574, -0.0920]), atol=2e-3, rtol=0
    )


@pytest.mark.real
def test_image(real: MobileStyleGAN, z: Tensor) -> None:
    image = real(z)
    assert image.shape == (1, 3, 1024, 1024)
    assert float(image.mean()) == pytest.approx(0.20415, abs=2e-4)
    assert float(image.std()) == pytest.approx(0.48265, abs=2e-4)
    torch.testing.assert_close(
        image[0, :, 512, 512], torch.tensor([0.4805, 0.1279, 0.0995]), atol=3e-3, rtol=0
    )


@pytest.mark.real
def test_every_split_gives_the_same_image_bit_for_bit(real: MobileStyleGAN, z: Tensor) -> None:
    styles = real.to_styles(z[:, None], "z").expand(-1, 16, -1)
    noises: list[Tensor | None] = [None] * 15
    with torch.no_grad():
        whole = real.run({}, styles, noises)["image"]
        for k in range(1, real.last + 1):
            split = real.splits[k]
            state = real.run({}, styles, noises, 0, k)
            assert {n: tuple(t.shape[1:]) for n, t in state.items()} == dict(split.shapes)
            rest = real.run(state, styles[:, split.first_slot :], noises[split.first_noise :], k)
            assert torch.equal(rest["image"], whole)


def test_noise_inputs(real: MobileStyleGAN) -> None:
    assert [round(float(c.strength), 4) for c in real._convs] == STRENGTHS
    for i, shape in enumerate(real.noise_shapes):
        noise = real.stored_noise(i)
        assert noise.shape[1:] == shape
        assert float(noise.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_gaussianised_latents(real: MobileStyleGAN) -> None:
    mean, std = v_statistics(real.latents.mapping, 512, samples=20_000, seed=99)
    # 20,000 draws know a mean to std / 141 and a standard deviation to about 1 %.
    assert float(((mean - real.latents.v_mean) / std).abs().max()) < 5 / 141
    assert float((std / real.latents.v_std - 1).abs().max()) < 0.05
    z = torch.randn(1, 4, 512, generator=torch.Generator().manual_seed(3))
    w = real.to_styles(z, "z")
    v = w_to_v(w, real.latents.v_mean, real.latents.v_std)
    torch.testing.assert_close(v_to_w(v, real.latents.v_mean, real.latents.v_std), w)
    assert float(v.std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_inverse_haar_is_the_orthonormal_synthesis(layout: torch.memory_format) -> None:
    a, b, c, d = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    # Two channels of each of LL, LH, HL, HH, with neighbours of zeros.
    x = torch.zeros(1, 8, 3, 5)
    x[0, :, 1, 2] = torch.cat([a, b, c, d])
    y = inverse_haar(x.contiguous(memory_format=layout))
    expected = torch.zeros(1, 2, 6, 10)
    rows = [[a + b + c + d, a + b - c - d], [a - b + c - d, a - b - c + d]]
    for i in range(2):
        for j in range(2):
            expected[0, :, 2 + i, 4 + j] = rows[i][j] / 2
    torch.testing.assert_close(y, expected)
    x = torch.randn(2, 12, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = inverse_haar(x.contiguous(memory_format=layout))
    assert y.shape == (2, 3, 10, 14)
    torch.testing.assert_close(y.square().sum(), x.square().sum())


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    import ilo_pl

    path = tmp_path / "weights.safetensors"
    if damage != "missing":
        data = bytearray(
            (Path(ilo_pl.__file__).parent / "weights/mobilestylegan_ffhq.safetensors").read_bytes()
        )
        if damage == "changed":
            data[len(data) // 2] ^= 1
        else:
            del data[-10:]
        path.write_bytes(data)
    with pytest.raises(WeightsError, match="sha256" if damage != "missing" else "not at"):
        load_weights("mobilestylegan-ffhq", path)
