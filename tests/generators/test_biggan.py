"""BigGAN-deep: the package's names, and each layer against PyTorch's own or a dense derivation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators import make_generator
from ilo_pl.generators.biggan.layers import Attention, BatchNorm, SpectralConv
from ilo_pl.generators.biggan.network import BigGANConfig, BigGANDeep
from ilo_pl.generators.check import check_generator

SMALL = BigGANConfig(
    z_dim=6,
    channel_width=4,
    num_classes=5,
    layers=((False, 16, 16), (True, 16, 8), (False, 8, 4), (True, 4, 1)),
    attention=2,
    n_stats=51,
)


@pytest.fixture(scope="module")
def small() -> BigGANDeep:
    return BigGANDeep.random(SMALL, seed=1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_names_and_shapes_are_the_packages() -> None:
    shapes = {n: tuple(v.shape) for n, v in BigGANDeep(BigGANConfig()).state_dict().items()}
    # Of biggan-deep-128.
    assert len(shapes) == 506
    expected = {
        "embeddings.weight": (128, 1000),
        "generator.gen_z.weight_orig": (32768, 256),
        "generator.gen_z.bias": (32768,),
        "generator.layers.0.bn_0.running_means": (51, 2048),
        "generator.layers.0.bn_0.scale.weight_orig": (2048, 256),
        "generator.layers.0.bn_3.offset.weight_u": (512,),
        "generator.layers.0.conv_1.weight_orig": (512, 512, 3, 3),
        "generator.layers.0.conv_1.weight_v": (4608,),
        "generator.layers.8.gamma": (1,),
        "generator.layers.8.snconv1x1_theta.weight_orig": (32, 256, 1, 1),
        "generator.layers.8.snconv1x1_o_conv.weight_u": (256,),
        "generator.layers.10.conv_3.bias": (128,),
        "generator.bn.weight": (128,),
        "generator.conv_to_rgb.weight_orig": (128, 128, 3, 3),
    }
    assert {n: shapes[n] for n in expected} == expected


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_spectral_weights_are_pytorchs() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # some draws have a norm near 0, by which everything is divided
        theirs = nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1)).eval()
    ours = SpectralConv(3, 5, 3)
    ours.load_state_dict(theirs.state_dict())
    x = draw(2, 3, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("truncation", "low", "share"), [(0.4, 20, 0.0), (0.41, 20, 0.5)])
def test_normalisation(truncation: float, low: int, share: float) -> None:
    norm = BatchNorm(4, 51)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_means.normal_()
    norm.running_vars.uniform_(0.5, 2)
    if share:
        mean = (norm.running_means[low] + norm.running_means[low + 1]) / 2
        variance = (norm.running_vars[low] + norm.running_vars[low + 1]) / 2
    else:
        mean, variance = norm.running_means[low], norm.running_vars[low]
    x = draw(2, 4, 3, 3)
    expected = F.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=1e-4)
    torch.testing.assert_close(norm(x, truncation), expected, atol=1e-5, rtol=1e-5)


def test_attention_pixel_by_pixel() -> None:
    layer = Attention(16)
    for module in layer.modules():
        if isinstance(module, SpectralConv):
            nn.init.normal_(module.weight_orig)
            module.estimate(torch.Generator().manual_seed(0))
    nn.init.constant_(layer.gamma, 0.7)
    x = draw(1, 16, 4, 4)

    def project(name: str) -> Tensor:
        return layer.get_submodule(name).weight.flatten(1) @ x[0].flatten(1)  # type: ignore[operator, union-attr]

    def pool(values: Tensor) -> Tensor:
        return torch.stack(
            [
                values.view(-1, 4, 4)[:, i : i + 2, j : j + 2].amax((1, 2))
                for i in (0, 2)
                for j in (0, 2)
            ],
            1,
        )

    query, key = project("snconv1x1_theta"), pool(project("snconv1x1_phi"))
    value = pool(project("snconv1x1_g"))
    seen = torch.stack([value @ torch.softmax(key.T @ q, 0) for q in query.T], 1)
    out = layer.snconv1x1_o_conv.weight.flatten(1) @ seen
    expected = x[0] + 0.7 * out.view(16, 4, 4)
    torch.testing.assert_close(layer(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_contract(small: BigGANDeep) -> None:
    fixed = BigGANDeep(SMALL, class_index=3)
    fixed.load_state_dict(small.state_dict())
    for generator in (small, fixed.freeze()):
        assert [check for check in check_generator(generator) if not check.passed] == []
    assert (small.latent_dim, fixed.latent_dim, small.num_slots) == (12, 6, 5)
    assert [s.shapes.get("features") for s in small.splits[1:-1]] == [
        (64, 4, 4),
        (64, 4, 4),
        (32, 8, 8),
        (16, 8, 8),
    ]
    assert small.image_shape == (3, 16, 16)


def test_class_as_a_variable_and_fixed(small: BigGANDeep) -> None:
    fixed = BigGANDeep(SMALL, class_index=3)
    fixed.load_state_dict(small.state_dict())
    fixed.freeze()
    z = draw(2, 6)
    table = small.embeddings.weight
    embedding = table[:, 3]
    u = (embedding - table.mean(1)) / table.std(1)
    both = torch.cat([z, u.expand(2, -1)], 1)
    torch.testing.assert_close(small(both), fixed(z), atol=1e-5, rtol=1e-5)
    raw = torch.cat([0.4 * z, embedding.expand(2, -1)], 1)
    torch.testing.assert_close(small(raw, "w"), fixed(z), atol=1e-5, rtol=1e-5)
    for wrong in ({"class_index": 5}, {"truncation": 0.0}):
        with pytest.raises(ConfigurationError):
            BigGANDeep(SMALL, **wrong)  # type: ignore[arg-type]


def test_files(small: BigGANDeep, tmp_path: Path) -> None:
    torch.save(small.state_dict(), tmp_path / "pytorch_model.bin")
    z = draw(1, 12)
    assert BigGANConfig.of(small.state_dict()) == SMALL
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        assert torch.equal(make_generator("biggan_deep", path)(z), small(z))
    (tmp_path / "cut.bin").write_bytes((tmp_path / "pytorch_model.bin").read_bytes()[:-99])
    torch.save({"a": z}, tmp_path / "other.bin")
    for name in ("cut.bin", "other.bin", "none.bin"):
        with pytest.raises(WeightsError, match=name):
            BigGANDeep.pretrained(tmp_path / name)
