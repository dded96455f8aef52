"""BigGAN-deep (Brock et al. 2019, arXiv 1809.11096), class-conditional, in plain PyTorch.

Parameters have the names and shapes of the package ``pytorch-pretrained-biggan``, so that its
``pytorch_model.bin`` is a state dictionary of this generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.biggan.layers import (
    Attention,
    BatchNorm,
    GenBlock,
    SpectralConv,
    SpectralLinear,
)
from ilo_pl.generators.latents import SPACES
from ilo_pl.weights.pickles import load_tensors

# The largest published network, of 512 x 512, has fourteen.
MAX_BLOCKS = 64


@dataclass(frozen=True)
class BigGANConfig:
    """Sizes of a BigGAN-deep; the defaults are those of 128 x 128.

    Args:
        z_dim: size of z and of a class embedding.
        channel_width: the unit of channel counts.
        num_classes: classes.
        layers: for each block whether it doubles the size, and the channels before and behind it, in
            units of ``channel_width``.
        attention: number of the block in front of which the self-attention stands.
        n_stats: truncations from 0 to 1 that statistics are stored for.
    """

    z_dim: int = 128
    channel_width: int = 128
    num_classes: int = 1000
    layers: tuple[tuple[bool, int, int], ...] = (
        (False, 16, 16),
        (True, 16, 16),
        (False, 16, 16),
        (True, 16, 8),
        (False, 8, 8),
        (True, 8, 4),
        (False, 4, 4),
        (True, 4, 2),
        (False, 2, 2),
        (True, 2, 1),
    )
    attention: int = 8
    n_stats: int = 51

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> BigGANConfig:
        """Read the sizes off a state dictionary; every second block doubles the size.

        Raises:
            KeyError: it is not one of BigGAN-deep.
        """
        width = len(state["generator.bn.weight"])
        embeddings = state["embeddings.weight"]
        numbers = {int(n.split(".")[2]) for n in state if n.startswith("generator.layers.")}
        attention = [i for i in sorted(numbers) if f"generator.layers.{i}.gamma" in state]
        blocks = [f"generator.layers.{i}" for i in sorted(numbers - set(attention))]
        if len(blocks) > MAX_BLOCKS:
            raise KeyError(f"{len(blocks)} blocks")
        layers = tuple(
            (
                i % 2 == 1,
                state[f"{b}.conv_0.weight_orig"].shape[1] // width,
                state[f"{b}.conv_3.weight_orig"].shape[0] // width,
            )
            for i, b in enumerate(blocks)
        )
        stats = len(state["generator.bn.running_means"])
        return cls(len(embeddings), width, embeddings.shape[1], layers, attention[0], stats)


class _Synthesis(nn.Module):
    """Holds the layers under the package's names."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        width, condition = config.channel_width, 2 * config.z_dim
        self.gen_z = SpectralLinear(condition, 16 * 16 * width)
        layers: list[nn.Module] = []
        for i, (up, c_in, c_out) in enumerate(config.layers):
            if i == config.attention:
                layers.append(Attention(width * c_in))
            layers.append(GenBlock(width * c_in, width * c_out, condition, config.n_stats, up=up))
        self.layers = nn.ModuleList(layers)
        self.bn = BatchNorm(width, config.n_stats)
        self.conv_to_rgb = SpectralConv(width, width, 3)


class BigGANDeep(SplitGenerator):
    """BigGAN-deep with the class fixed or searched.

    Each block sees the condition, z and the class embedding side by side, in a style slot of its own.
    The splits are the latent, the input of each block, and the image.

    With a class, latents are z (``z_dim`` numbers). Without, the class embedding is a variable: a latent
    has ``2 z_dim`` numbers, the second half standardised by the mean and standard deviation of all
    classes' embeddings. Latents of the spaces z and v are N(0, 1), and z is scaled by ``truncation`` as
    the package's ``truncated_noise_sample`` does; those of w are the network's own inputs.

    Args:
        config: sizes.
        class_index: the fixed class; ``None`` searches the class embedding too.
        truncation: scale of z, in (0, 1], for which the statistics are chosen.

    Raises:
        ConfigurationError: there is no such class or truncation.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES

    def __init__(
        self, config: BigGANConfig, *, class_index: int | None = None, truncation: float = 0.4
    ) -> None:
        super().__init__()
        if class_index is not None and not 0 <= class_index < config.num_classes:
            raise ConfigurationError(
                f"There is no class {class_index}: they are 0 to {config.num_classes - 1}."
            )
        if not 0 < truncation <= 1:
            raise ConfigurationError(f"truncation = {truncation}; it lies in (0, 1].")
        self.config = config
        self.class_index = class_index
        self.truncation = truncation
        self.embeddings = nn.Linear(config.num_classes, config.z_dim, bias=False)
        self.generator = _Synthesis(config)
        self.latent_dim = config.z_dim * (2 if class_index is None else 1)
        self.num_slots = 1 + len(config.layers)
        self.noise_shapes = ()
        splits, size = [Split("latent", {}, 0, 0)], 4
        for k, (up, c_in, _) in enumerate(config.layers, start=1):
            shape = (c_in * config.channel_width, size, size)
            splits.append(Split(f"block{k - 1}", {"features": shape}, k, 0))
            size *= 2 if up else 1
        self.splits = (*splits, Split("image", {"image": (3, size, size)}, self.num_slots, 0))

    @classmethod
    def pretrained(
        cls, weights: Path | None, *, class_index: int | None = None, truncation: float = 0.4
    ) -> BigGANDeep:
        """Return the frozen network of a ``pytorch_model.bin``, or of the folder that holds it.

        Raises:
            WeightsError: there is no file, or it does not hold a BigGAN-deep.
        """
        if weights is None:
            raise WeightsError(
                "BigGAN-deep has no weights in the package.",
                hint="Set generator.weights to the pytorch_model.bin of pytorch-pretrained-biggan.",
            )
        path = weights / "pytorch_model.bin" if weights.is_dir() else weights
        if not path.is_file():
            raise WeightsError(f"There is no file {path}.")
        try:
            state = {n: v.float() for n, v in load_tensors(path, lenient=False).items()}
            config = BigGANConfig.of(state)
            # Shapes are compared before any memory is taken: a few tensors can declare a huge network.
            with torch.device("meta"):
                network = cls(config, class_index=class_index, truncation=truncation)
            network.load_state_dict(state, assign=True)
        except (ConfigurationError, WeightsError):
            raise
        except Exception as error:
            # A damaged or hostile file can fail in any way it likes.
            reason = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise WeightsError(
                f"{path} does not hold a BigGAN-deep of pytorch-pretrained-biggan: {reason}",
                hint="The file may be incomplete, or another network's. Nothing in it was run.",
            ) from None
        network.freeze()
        return network

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`. Block 0 makes the 4 x 4 features, the last the image."""
        condition = self._condition(styles[:, 0])
        if k == 0:
            width = self.config.channel_width
            # The weights come from TensorFlow, which has the channels last.
            x = self.generator.gen_z(condition).view(-1, 4, 4, 16 * width)
            return {"features": x.permute(0, 3, 1, 2)}
        x = state["features"]
        first = k - 1 + (1 if k - 1 > self.config.attention else 0)
        if k - 1 == self.config.attention:
            x = self.generator.layers[first](x)
            first += 1
        x = self.generator.layers[first](x, condition, self.truncation)
        if k < len(self.config.layers):
            return {"features": x}
        x = F.relu(self.generator.bn(x, self.truncation))
        return {"image": torch.tanh(self.generator.conv_to_rgb(x)[:, :3])}

    def _condition(self, style: Tensor) -> Tensor:
        if self.class_index is None:
            return style
        embedding = self.embeddings.weight[:, self.class_index]
        return torch.cat([style, embedding.expand(len(style), -1)], 1)

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents to what the network takes: z scaled, the class embedding with its mean and spread."""
        if space == "w":
            return latents
        if self.class_index is not None:
            return latents * self.truncation
        z, u = latents.chunk(2, -1)
        mean, spread = self.embeddings.weight.mean(1), self.embeddings.weight.std(1)
        return torch.cat([z * self.truncation, mean + spread * u], -1)

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers into latents."""
        if space != "w":
            return normal
        with torch.no_grad():
            return self.to_styles(normal, "z")

    def stored_noise(self, index: int) -> Tensor:
        """Raise: there are no noise inputs."""
        raise ConfigurationError(f"There is no noise input {index}: BigGAN has none.")

    @classmethod
    def random(
        cls, config: BigGANConfig, *, class_index: int | None = None, seed: int = 0
    ) -> BigGANDeep:
        """Return a frozen network of random weights."""
        network = cls(config, class_index=class_index)
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.normal_(generator=rng)
                if name.endswith("bn.weight"):
                    value.mul_(0.1).add_(1)
                elif name.endswith("bias"):
                    value.mul_(0.1)
            for module in network.modules():
                if isinstance(module, (SpectralConv, SpectralLinear)):
                    module.estimate(rng)
                elif isinstance(module, BatchNorm):
                    module.running_means.normal_(generator=rng).mul_(0.1)
                    module.running_vars.uniform_(0.5, 1.5, generator=rng)
        network.freeze()
        return network
