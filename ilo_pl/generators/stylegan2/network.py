"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), 32 x 32 to 1024 x 1024, in plain PyTorch.

Parameters have the names and shapes of NVIDIA's PyTorch code, so that a published network is a state
dictionary of this one. How files are read: :mod:`ilo_pl.generators.stylegan2.checkpoint`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.latents import SPACES, v_statistics, v_to_w
from ilo_pl.generators.stylegan2.checkpoint import Checkpoint, read_checkpoint
from ilo_pl.generators.stylegan2.layers import Mapping, SynthesisBlock, SynthesisLayer

RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
# A mean over this many draws is known to 1/141 of the standard deviation.
V_SAMPLES = 20_000


def channels_by_size(
    resolution: int, channel_base: int = 32768, channel_max: int = 512
) -> tuple[int, ...]:
    """Return the channels of the blocks 4 x 4, 8 x 8, ... up to ``resolution``.

    ``channel_base`` is 32768 for config-f and 16384 for config-e; rosinality's ``channel_multiplier``
    is ``channel_base / 16384``.
    """
    sizes = [2**i for i in range(2, resolution.bit_length())]
    return tuple(min(channel_base // size, channel_max) for size in sizes)


class StyleGAN2(SplitGenerator):
    """StyleGAN2 with the architecture "skip": every block adds to an RGB image.

    The splits are the latent, the features behind each block but the last, and the image. The colours
    of a block are drawn behind its cut, because they share their style with the next block's first
    convolution: split k has the features of its own size and, from the second on, the RGB image of half
    that size. With S = 2 log2(resolution) - 2 style slots, split k >= 1 starts at slot and noise 2k - 1.

    Args:
        resolution: 32, 64, ... 1024.
        channels: channels of the blocks from 4 x 4 on, see :func:`channels_by_size`.
        dim: size of z and w.
        mapping_layers: depth of the mapping network.
        conv_clamp: what activations are clamped to; 256 for networks trained in half precision.
        truncation: psi; styles mapped from z are w_avg + psi (w - w_avg).

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES
    skip_states: ClassVar[tuple[str, ...]] = ("rgb",)
    v_mean: Tensor
    v_std: Tensor

    def __init__(
        self,
        resolution: int,
        channels: Sequence[int],
        *,
        dim: int = 512,
        mapping_layers: int = 8,
        conv_clamp: float | None = None,
        truncation: float = 1.0,
    ) -> None:
        super().__init__()
        if resolution not in RESOLUTIONS:
            raise ConfigurationError(
                f"StyleGAN2 of resolution {resolution} is not known.",
                choices=map(str, RESOLUTIONS),
            )
        self.sizes = [2**i for i in range(2, resolution.bit_length())]
        if len(channels) != len(self.sizes):
            raise ConfigurationError(
                f"{len(channels)} channel counts for {len(self.sizes)} blocks, of {self.sizes} pixels."
            )
        self.truncation = truncation
        self.conv_clamp = conv_clamp
        self.mapping = Mapping(mapping_layers, dim)
        self.synthesis = nn.Module()
        for i, size in enumerate(self.sizes):
            c_in = channels[i - 1] if i else 0
            block = SynthesisBlock(c_in, channels[i], dim, size, conv_clamp)
            self.synthesis.add_module(f"b{size}", block)
        self.register_buffer("v_mean", torch.zeros(dim))
        self.register_buffer("v_std", torch.ones(dim))

        self.latent_dim = dim
        self.num_slots = 2 * len(self.sizes)
        self.noise_shapes = tuple((1, *layer.noise_const.shape) for layer in self.layers)
        inner: list[Split] = []
        for i, (size, c) in enumerate(zip(self.sizes[:-1], channels, strict=False)):
            shapes = {"features": (c, size, size)}
            if i:
                shapes["rgb"] = (3, size // 2, size // 2)
            inner.append(Split(f"b{size}", shapes, 2 * i + 1, 2 * i + 1))
        image = {"image": (3, resolution, resolution)}
        self.splits = (
            Split("latent", {}, 0, 0),
            *inner,
            Split("image", image, self.num_slots, len(self.noise_shapes)),
        )

    @classmethod
    def random(
        cls,
        resolution: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        dim: int = 512,
        mapping_layers: int = 8,
        conv_clamp: float | None = None,
        seed: int = 0,
    ) -> StyleGAN2:
        """Return a frozen network of random weights: what training starts from, with some noise."""
        channels = channels_by_size(resolution, channel_base, channel_max)
        network = cls(
            resolution, channels, dim=dim, mapping_layers=mapping_layers, conv_clamp=conv_clamp
        )
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.normal_(generator=rng)
                if name.startswith("mapping") and name.endswith("weight"):
                    value.mul_(100)
                elif name.endswith(("bias", "noise_strength")):
                    value.mul_(0.1)
                if name.endswith("affine.bias"):
                    value.add_(1)
            for layer in network.layers:
                layer.noise_const.normal_(generator=rng)
            network._measure_latents()
        network.freeze()
        return network

    @classmethod
    def pretrained(cls, weights: Path | None, *, truncation: float = 1.0) -> StyleGAN2:
        """Return the frozen network of a file: NVIDIA's, rosinality's or our own.

        Raises:
            WeightsError: there is no file, or it does not hold a StyleGAN2 generator.
        """
        if weights is None:
            raise WeightsError(
                "StyleGAN2 has no weights in the package.",
                hint="Set generator.weights=FILE: NVIDIA's .pkl, rosinality's .pt, or what "
                "`ilo-pl convert` made of one.",
            )
        return cls.from_checkpoint(read_checkpoint(weights), truncation=truncation)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, truncation: float = 1.0) -> StyleGAN2:
        """Build the frozen network that a checkpoint holds; its architecture is read off its shapes.

        Raises:
            WeightsError: names or shapes are not those of one StyleGAN2 generator.
        """
        state = checkpoint.state
        resolution, channels, dim, layers = _architecture(state, checkpoint.path)
        network = cls(
            resolution,
            channels,
            dim=dim,
            mapping_layers=layers,
            conv_clamp=checkpoint.conv_clamp,
            truncation=truncation,
        )
        own = {"mapping.w_avg", "v_mean", "v_std"}
        _check(state, network.state_dict(), own, checkpoint.path)
        network.load_state_dict(state, strict=False)
        network._measure_latents(known=state.keys())
        network.freeze()
        return network

    def _measure_latents(self, known: Collection[str] = ()) -> None:
        """Estimate what a file does not tell of the distribution of w."""
        if "v_mean" not in known or "v_std" not in known:
            mean, std = v_statistics(self.mapping, self.latent_dim, V_SAMPLES)
            self.v_mean.copy_(mean)
            self.v_std.copy_(std)
        if "mapping.w_avg" not in known:
            rng = torch.Generator().manual_seed(0)
            with torch.no_grad():
                w = self.mapping(torch.randn(V_SAMPLES, self.latent_dim, generator=rng))
            self.mapping.w_avg.copy_(w.mean(0))

    def _block(self, index: int) -> SynthesisBlock:
        block = self.synthesis.get_submodule(f"b{self.sizes[index]}")
        assert isinstance(block, SynthesisBlock)
        return block

    @property
    def layers(self) -> list[SynthesisLayer]:
        """The convolutions with noise inputs, in order."""
        return [m for m in self.synthesis.modules() if isinstance(m, SynthesisLayer)]

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`. Block 0 starts from the constant, the last ends in colours."""
        block = self._block(k)
        if k == 0:
            x = block.const.expand(len(styles), -1, -1, -1)
            return {"features": block.conv1(x, styles[:, 0], noises[0])}
        rgb = self._block(k - 1).colours(state["features"], state.get("rgb"), styles[:, 0])
        x = block.conv0(state["features"], styles[:, 0], noises[0])
        x = block.conv1(x, styles[:, 1], noises[1])
        if k < len(self.sizes) - 1:
            return {"features": x, "rgb": rgb}
        return {"image": block.colours(x, rgb, styles[:, 2])}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents of z, v or w to styles; those of z are truncated."""
        if space == "w":
            return latents
        if space == "v":
            return v_to_w(latents, self.v_mean, self.v_std)
        styles: Tensor = self.mapping(latents.flatten(0, 1)).view_as(latents)
        if self.truncation == 1:
            return styles
        return self.mapping.w_avg + self.truncation * (styles - self.mapping.w_avg)

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers into latents of z, v or w; the centre of w is ``w_avg``."""
        if space != "w":
            return normal
        with torch.no_grad():
            if not normal.any():
                return self.mapping.w_avg.expand_as(normal).clone()
            return self.to_styles(normal, "z")

    def stored_noise(self, index: int) -> Tensor:
        """Return the trained network's fixed noise map of one input, on the scale of N(0, 1)."""
        return self.layers[index].noise_const[None, None]


def _architecture(
    state: MappingType[str, Tensor], path: Path
) -> tuple[int, tuple[int, ...], int, int]:
    """Read resolution, channels, latent dimension and mapping depth off a state dictionary."""
    known = [2**i for i in range(2, 11)]
    weights = [state.get(f"synthesis.b{s}.conv1.weight") for s in known]
    found = [w for w in weights if w is not None and w.ndim == 4]
    layers = sum(1 for name in state if name.startswith("mapping.fc") and name.endswith("weight"))
    first = state.get("mapping.fc0.weight")
    # Blocks follow each other from 4 x 4 on.
    whole = all(w is not None for w in weights[: len(found)])
    if not whole or len(found) < 4 or first is None or first.ndim != 2 or not first.numel():
        sizes = [s for s, w in zip(known, weights, strict=True) if w is not None]
        raise WeightsError(
            f"{path} is not a StyleGAN2 generator of 32 x 32 to 1024 x 1024: it has {layers} mapping "
            f"layers and blocks of {sizes} pixels."
        )
    return known[len(found) - 1], tuple(len(w) for w in found), len(first), layers


def _check(
    state: MappingType[str, Tensor],
    expected: MappingType[str, Tensor],
    optional: set[str],
    path: Path,
) -> None:
    """Compare names and shapes, and refuse numbers that are not finite."""
    problems = [f"{n} is missing" for n in expected if n not in state and n not in optional]
    problems += [f"{n} does not belong there" for n in state if n not in expected]
    for name in expected.keys() & state.keys():
        found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        if found != wanted:
            problems.append(f"{name} has shape {found} in place of {wanted}")
        elif not math.isfinite(float(state[name].float().sum())):
            problems.append(f"{name} holds numbers that are not finite")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} does not fit StyleGAN2: {'; '.join(sorted(problems)[:3])}{more}.",
            hint="Networks of the architecture 'skip' with three colours and without classes are read.",
        )
