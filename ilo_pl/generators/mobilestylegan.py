"""MobileStyleGAN-FFHQ, 1024 x 1024: the generator that the package ships.

Architecture after Belousov 2021 (arXiv 2104.04767): StyleGAN2's mapping network, and a synthesis
network of depthwise separable convolutions that draws wavelet coefficients instead of pixels. The
weights are those of the ``random-face`` package, see ``ilo_pl/weights/NOTICE``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.generators.activation import SLOPE, leaky_relu
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.latents import SPACES, LatentSpaces
from ilo_pl.weights.load import load_weights

STYLE_DIM = 512
CHANNELS_OUT = (512, 512, 512, 512, 256, 128, 64)


def inverse_haar(x: Tensor) -> Tensor:
    """Turn wavelet coefficients ``(B, 4C, h, w)`` into ``(B, C, 2h, 2w)``.

    The bands LL, LH, HL and HH follow each other, C channels each.
    """
    batch, channels, height, width = x.shape
    ll, lh, hl, hh = x.chunk(4, 1)
    if x.is_contiguous(memory_format=torch.channels_last):
        # One expression for all four pixels of a cell, channels innermost: a compiler makes one loop of it.
        ll, lh, hl, hh = (v.permute(0, 2, 3, 1)[:, :, None, :, None] for v in (ll, lh, hl, hh))
        sign = 1 - 2 * torch.arange(2, dtype=x.dtype, device=x.device)
        row, column = sign.view(2, 1, 1, 1), sign.view(2, 1)
        cells = ((ll + lh * row) + (hl + hh * row) * column) / 2
        return cells.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)
    low, high = ll + lh, hl + hh
    low_, high_ = ll - lh, hl - hh
    # Each coefficient becomes one 2 x 2 cell; stacking its four pixels behind the channels is what
    # pixel_shuffle undoes.
    cell = torch.stack([low + high, low - high, low_ + high_, low_ - high_], dim=2) / 2
    return F.pixel_shuffle(cell.reshape(batch, channels, height, width), 2)


def bands_together(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reorder the channels that :func:`inverse_haar` takes, from the published weights' order.

    There LH, HL and HH of a channel are neighbours, which vector instructions cannot read.

    Args:
        weights: the network's tensors by name.
    """
    blocks = [f"blocks.{i}.conv2" for i in range(6)] + [f"blocks.{i}.up" for i in range(7)]
    layers = ["stem", *blocks, "head"]
    ordered = dict(weights)
    for name in (f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")):
        rows = weights[name]
        count = len(rows) // 4
        ordered[name] = torch.cat([rows[:count], *(rows[count + i :: 3] for i in range(3))])
    return ordered


class MappingNetwork(nn.Module):
    """StyleGAN2's mapping network: z ``(N, 512)`` -> w ``(N, 512)``."""

    def __init__(self, layers: int = 8, dim: int = STYLE_DIM) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """Map z to w; z is scaled to unit RMS first."""
        x = z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE) * 2**0.5
        return x


class ModulatedConv(nn.Module):
    """Style-scaled convolution, noise, bias and leaky ReLU.

    ``depthwise`` splits the convolution into a depthwise 3 x 3 and a pointwise 1 x 1 one. There is no
    demodulation at run time: distillation folded it into the weights.
    """

    noise: Tensor
    strength: Tensor

    def __init__(self, c_in: int, c_out: int, size: int, *, depthwise: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(STYLE_DIM, c_in)
        self.depthwise = nn.Parameter(torch.empty(c_in, 1, 3, 3)) if depthwise else None
        kernel = 1 if depthwise else 3
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(c_out))
        self.register_buffer("noise", torch.empty(1, 1, size, size))
        self.register_buffer("strength", torch.empty(()))
        self.scale = (c_in * 9) ** -0.5

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, c_out, s, s)``; ``style`` is ``(B, 512)``."""
        x = x * (self.modulation(style) * self.scale)[:, :, None, None]
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
            x = F.conv2d(x, self.weight, self.bias)
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=1)
        n = self.noise if noise is None else noise
        return leaky_relu(x + self.strength * n)


class Block(nn.Module):
    """Double the size by an inverse wavelet step, then two convolutions."""

    def __init__(self, c_in: int, c_out: int, size: int) -> None:
        super().__init__()
        self.up = nn.Linear(STYLE_DIM, c_in)
        self.conv1 = ModulatedConv(c_in // 4, c_out, size, depthwise=True)
        self.conv2 = ModulatedConv(c_out, c_out, size, depthwise=True)

    def forward(self, x: Tensor, styles: Tensor, noises: Sequence[Tensor | None]) -> Tensor:
        """``(B, c_in, s/2, s/2)`` -> ``(B, c_out, s, s)``; ``styles`` is ``(B, 2, 512)``."""
        x = inverse_haar(x * self.up(styles[:, 0])[:, :, None, None])
        x = self.conv1(x, styles[:, 0], noises[0])
        y: Tensor = self.conv2(x, styles[:, 1], noises[1])
        return y


@final
class MobileStyleGAN(SplitGenerator):
    """MobileStyleGAN with 16 live style slots, 15 noise inputs and splits 0 to 8.

    The splits are the latent, the inputs of the seven blocks (512 x 4 x 4 up to 128 x 256 x 256) and
    the image. Each split state is the one tensor ``features``, wavelet coefficients in four bands: unlike
    StyleGAN2 there is no accumulated RGB image.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES

    def __init__(self) -> None:
        super().__init__()
        self.latents = LatentSpaces(MappingNetwork(), STYLE_DIM)
        self.const = nn.Parameter(torch.empty(1, CHANNELS_OUT[0], 4, 4))
        self.stem = ModulatedConv(CHANNELS_OUT[0], CHANNELS_OUT[0], 4, depthwise=False)
        channels_in = (CHANNELS_OUT[0], *CHANNELS_OUT[:-1])
        sizes = [2 ** (i + 3) for i in range(len(CHANNELS_OUT))]
        shapes = list(zip(channels_in, CHANNELS_OUT, sizes, strict=True))
        blocks = [Block(c_in, c_out, size) for c_in, c_out, size in shapes]
        self.blocks = nn.ModuleList(blocks)
        self.head_modulation = nn.Linear(STYLE_DIM, CHANNELS_OUT[-1])
        self.head = nn.Conv2d(CHANNELS_OUT[-1], 12, 1)

        self.latent_dim = STYLE_DIM
        self.num_slots = 16
        self._convs = [self.stem, *(c for b in blocks for c in (b.conv1, b.conv2))]
        self.noise_shapes = tuple(tuple(c.noise.shape[1:]) for c in self._convs)
        inner = tuple(
            Split(f"block{i}", {"features": (c, size // 2, size // 2)}, 2 * i + 1, 2 * i + 1)
            for i, (c, size) in enumerate(zip(channels_in, sizes, strict=True))
        )
        self.splits = (
            Split("latent", {}, 0, 0),
            *inner,
            Split("image", {"image": (3, 1024, 1024)}, 16, 15),
        )

    @classmethod
    def pretrained(cls, weights: Path | None = None) -> MobileStyleGAN:
        """Return the frozen FFHQ network with the weights in the package (or a copy of them).

        Raises:
            WeightsError: the file is missing or its sha256 is not the registered one.
        """
        generator = cls()
        generator.load_state_dict(bands_together(load_weights("mobilestylegan-ffhq", weights)))
        generator.freeze()
        return generator

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`. Block 0 starts from the constant, block 7 adds the head."""
        if k == 0:
            const = self.const.expand(styles.shape[0], -1, -1, -1)
            return {"features": self.stem(const, styles[:, 0], noises[0])}
        x = self.blocks[k - 1](state["features"], styles, noises)
        if k < len(self.blocks):
            return {"features": x}
        scale = CHANNELS_OUT[-1] ** -0.5
        x = x * (self.head_modulation(styles[:, 2]) * scale)[:, :, None, None]
        return {"image": inverse_haar(self.head(x))}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents of z, v or w to styles."""
        styles: Tensor = self.latents(latents, space)
        return styles

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers into latents of z, v or w."""
        return self.latents.from_normal(normal, space)

    def stored_noise(self, index: int) -> Tensor:
        """Return the trained network's fixed noise map of one input, on the scale of N(0, 1)."""
        return self._convs[index].noise
