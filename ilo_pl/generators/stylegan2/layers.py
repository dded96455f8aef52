"""StyleGAN2's layers in plain PyTorch, with the parameter names of NVIDIA's PyTorch code.

Karras et al. 2020 (arXiv 1912.04958). Weights are stored as N(0, 1) numbers and scaled when they are used
(equalised learning rate, section 2 of arXiv 1710.10196), so that published files load as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.generators.activation import leaky_relu
from ilo_pl.generators.stylegan2.architecture import ActivationName, Architecture

GAIN = math.sqrt(2)
HALF = math.sqrt(0.5)
EPS = 1e-8


def _linear(x: Tensor) -> Tensor:
    return x


# Each with the gain that keeps the variance, as NVIDIA's code has it.
ACTIVATIONS: dict[ActivationName, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (_linear, 1.0),
    "relu": (F.relu, GAIN),
    "lrelu": (leaky_relu, GAIN),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 1.0),
    "elu": (F.elu, 1.0),
    "selu": (F.selu, 1.0),
    "softplus": (F.softplus, 1.0),
    "swish": (F.silu, GAIN),
}


def unit_rms(x: Tensor) -> Tensor:
    """Scale rows ``(N, D)`` to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def fir_kernel() -> Tensor:
    """Return the low-pass filter [1, 3, 3, 1] in two dimensions, ``(4, 4)``, of sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def fir_upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size: zeros between the pixels, then the filter with gain 4.

    Args:
        x: ``(B, C, h, w)``.
        kernel: ``(k, l)`` of sum 1; the published networks' is ``(4, 4)``.

    Returns:
        ``(B, C, 2h, 2w)``.
    """
    channels = x.shape[1]
    weight = (kernel * 4).expand(channels, 1, -1, -1)
    # What has to go before and behind of the 2n + k - 2 values of a transposed convolution.
    cuts = [(n - 1 - (n + 1) // 2, (n - 1) // 2) for n in kernel.shape]
    common = tuple(max(min(cut), 0) for cut in cuts)
    x = F.conv_transpose2d(x, weight, stride=2, padding=common, groups=channels)
    return _cropped(x, [(a - p, b - p) for (a, b), p in zip(cuts, common, strict=True)])


def _cropped(x: Tensor, cuts: Sequence[tuple[int, int]]) -> Tensor:
    """Cut so many rows and columns off, before and behind; negative numbers add zeros."""
    (top, bottom), (left, right) = cuts
    return F.pad(x, (-left, -right, -top, -bottom)) if any((top, bottom, left, right)) else x


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return what restores the output's unit variance (equation 3 of arXiv 1912.04958).

    Args:
        weight: ``(O, I, k, k)``, unscaled.
        styles: ``(B, I)``.

    Returns:
        ``(B, O)`` float32. The sums are never taken in half precision, where they overflow.
    """
    energy = weight.float().square().sum((2, 3))
    return torch.rsqrt((energy * styles.float().square()[:, None]).sum(-1) + EPS)


def modulated_conv(
    x: Tensor, weight: Tensor, styles: Tensor, kernel: Tensor | None = None, *, demodulate: bool
) -> Tensor:
    """Convolve every image with its own, style-scaled weights.

    Scaling the input's and the output's channels is the same as scaling the weights, and all images of
    a batch can then share one convolution.

    Args:
        x: ``(B, I, h, w)``.
        weight: ``(O, I, k, k)`` of unit variance; scaled by 1 / sqrt(fan in) here.
        styles: ``(B, I)``.
        kernel: low-pass filter ``(k, l)``: doubles the size by a transposed convolution and this filter.
        demodulate: whether to normalise each output channel.

    Returns:
        ``(B, O, h, w)``, or twice the size with ``kernel``.
    """
    scale = weight[0].numel() ** -0.5
    x = x * styles[:, :, None, None]
    scaled = weight * scale
    if kernel is None:
        x = F.conv2d(x, scaled, padding=weight.shape[-1] // 2)
    else:
        x = F.conv_transpose2d(x, scaled.transpose(0, 1), stride=2)
        blur = (kernel.flip(0, 1) * 4).expand(len(weight), 1, -1, -1)
        # 2n + 1 values become 2n.
        pads = [((n + 1) // 2 - 1, (n - 2) // 2) for n in kernel.shape]
        common = tuple(max(min(pad), 0) for pad in pads)
        x = _cropped(x, [(p - a, p - b) for (a, b), p in zip(pads, common, strict=True)])
        x = F.conv2d(x, blur, padding=common, groups=len(weight))
    if demodulate:
        x = x * (demodulation(weight, styles) / scale)[:, :, None, None].to(x.dtype)
    return x


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """Clamp to [-limit, limit], as networks trained in half precision do."""
    return x if limit is None else x.clamp(-limit, limit)


class Dense(nn.Module):
    """Linear layer of scaled weights, ``(B, n_in)`` -> ``(B, n_out)``."""

    def __init__(self, n_in: int, n_out: int, lr: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.lr = lr
        self.scale = lr * n_in**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Apply weights and bias, both times the learning-rate factor."""
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


class Mapping(nn.Module):
    """z ``(N, z_dim)`` -> w ``(N, dim)``; ``w_avg`` ``(dim,)`` is the mean of w."""

    w_avg: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.mapping_widths()
        if architecture.classes:
            self.embed = Dense(architecture.classes, architecture.embed_features)
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"fc{i}", Dense(n_in, n_out, architecture.mapping_lr))
        self.register_buffer("w_avg", torch.zeros(architecture.dim))
        self.depth = architecture.mapping_layers
        self.activation, self.gain = ACTIVATIONS[architecture.mapping_activation]

    def embeddings(self) -> Tensor:
        """Return the classes' embeddings ``(classes, embed_features)``, not scaled to unit RMS."""
        table: Tensor = self.embed.weight.T * self.embed.scale + self.embed.bias
        return table

    def forward(self, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map z and, side by side, a class's embedding ``(N, embed_features)``, each of unit RMS."""
        x = unit_rms(z)
        if embedding is not None:
            x = torch.cat([x, unit_rms(embedding)], 1)
        for i in range(self.depth):
            x = self.activation(self.get_submodule(f"fc{i}")(x)) * self.gain
        return x


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias, activation."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self, architecture: Architecture, c_in: int, c_out: int, size: int, *, up: bool = False
    ) -> None:
        super().__init__()
        self.affine = Dense(architecture.dim, c_in)
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.empty(c_out))
        self.use_noise = architecture.use_noise
        if self.use_noise:
            self.noise_strength = nn.Parameter(torch.empty(()))
            self.register_buffer("noise_const", torch.empty(size, size))
        self.register_buffer("resample_filter", fir_kernel())
        self.up = up
        self.clamp = architecture.conv_clamp
        self.activation, self.gain = ACTIVATIONS[architecture.activation]

    def damp(self, factor: float) -> None:
        """Multiply what comes out, and what it is clamped to."""
        self.gain = self.gain * factor
        self.clamp = None if self.clamp is None else self.clamp * factor

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, c_out, s, s)``, or 2s where the layer doubles the size."""
        kernel = self.resample_filter if self.up else None
        x = modulated_conv(x, self.weight, self.affine(style), kernel, demodulate=True)
        if self.use_noise:
            x = x + self.noise_strength * (self.noise_const if noise is None else noise)
        x = self.activation(x + self.bias[:, None, None]) * self.gain
        return clamped(x, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to colours, without demodulation."""

    def __init__(self, architecture: Architecture, c_in: int) -> None:
        super().__init__()
        self.affine = Dense(architecture.dim, c_in)
        self.weight = nn.Parameter(torch.empty(architecture.colours, c_in, 1, 1))
        self.bias = nn.Parameter(torch.empty(architecture.colours))
        self.clamp = architecture.conv_clamp

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, colours, s, s)``."""
        x = modulated_conv(x, self.weight, self.affine(style), demodulate=False)
        return clamped(x + self.bias[:, None, None], self.clamp)


class Shortcut(nn.Module):
    """1 x 1 convolution around a residual block, to twice the size and half the variance."""

    resample_filter: Tensor

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 1, 1))
        self.register_buffer("resample_filter", fir_kernel())
        self.scale = c_in**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, c_out, 2s, 2s)``."""
        return fir_upsample(F.conv2d(x, self.weight * self.scale), self.resample_filter) * HALF


class SynthesisBlock(nn.Module):
    """All that happens at one size: one or two convolutions, colours where they are drawn."""

    resample_filter: Tensor

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        size, c_out = architecture.sizes[index], architecture.channels[index]
        residual = architecture.kind == "resnet" and index > 0
        if index:
            c_in = architecture.channels[index - 1]
            self.conv0 = SynthesisLayer(architecture, c_in, c_out, size, up=True)
        else:
            self.const = nn.Parameter(torch.empty(c_out, size, size))
        self.conv1 = SynthesisLayer(architecture, c_out, c_out, size)
        if architecture.kind == "skip" or size == architecture.resolution:
            self.torgb = ToRGB(architecture, c_out)
        self.skip = Shortcut(c_in, c_out) if residual else None
        if residual:
            self.conv1.damp(HALF)
        self.register_buffer("resample_filter", fir_kernel())

    def first(self, style: Tensor, noise: Tensor | None) -> Tensor:
        """Start from the constant, with a style ``(B, dim)``."""
        x: Tensor = self.conv1(self.const.expand(len(style), -1, -1, -1), style, noise)
        return x

    def features(self, x: Tensor, styles: Tensor, noises: Sequence[Tensor | None]) -> Tensor:
        """Double the size of the features, with styles ``(B, 2, dim)`` and up to two noises."""
        first, second = noises or (None, None)
        y: Tensor = self.conv1(self.conv0(x, styles[:, 0], first), styles[:, 1], second)
        return y if self.skip is None else self.skip(x) + y

    def colours(self, x: Tensor, rgb: Tensor | None, style: Tensor) -> Tensor:
        """Add this size's colours to the upsampled image ``rgb`` of half the size."""
        colours: Tensor = self.torgb(x, style)
        return colours if rgb is None else fir_upsample(rgb, self.resample_filter) + colours
