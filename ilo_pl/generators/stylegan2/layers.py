"""StyleGAN2's layers in plain PyTorch, with the parameter names of NVIDIA's PyTorch code.

Karras et al. 2020 (arXiv 1912.04958). Weights are stored as N(0, 1) numbers and scaled when they are used
(equalised learning rate, section 2 of arXiv 1710.10196), so that published files load as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.generators.activation import SLOPE, leaky_relu

GAIN = math.sqrt(2)
# What multiplies the learning rate of the mapping network: its stored weights are 100 times larger.
MAPPING_LR = 0.01
EPS = 1e-8


def fir_kernel() -> Tensor:
    """Return the low-pass filter [1, 3, 3, 1] in two dimensions, ``(4, 4)``, of sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def fir_upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size: zeros between the pixels, then the filter with gain 4.

    Args:
        x: ``(B, C, h, w)``.
        kernel: ``(4, 4)`` of sum 1.

    Returns:
        ``(B, C, 2h, 2w)``.
    """
    channels = x.shape[1]
    weight = (kernel * 4).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


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
        kernel: low-pass filter ``(4, 4)``: doubles the size by a transposed convolution and this filter.
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
        x = F.conv2d(x, blur, padding=1, groups=len(weight))
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
    """z ``(N, D)`` -> w ``(N, D)``; ``w_avg`` ``(D,)`` is the mean of w."""

    w_avg: Tensor

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"fc{i}", Dense(dim, dim, MAPPING_LR))
        self.register_buffer("w_avg", torch.zeros(dim))

    def forward(self, z: Tensor) -> Tensor:
        """Map z, scaled to unit RMS first."""
        x = z * torch.rsqrt(z.square().mean(-1, keepdim=True) + EPS)
        for layer in self.children():
            x = F.leaky_relu(layer(x), SLOPE) * GAIN
        return x


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self, c_in: int, c_out: int, dim: int, size: int, clamp: float | None, *, up: bool
    ) -> None:
        super().__init__()
        self.affine = Dense(dim, c_in)
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.empty(c_out))
        self.noise_strength = nn.Parameter(torch.empty(()))
        self.register_buffer("noise_const", torch.empty(size, size))
        self.register_buffer("resample_filter", fir_kernel())
        self.up = up
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, c_out, s, s)``, or 2s where the layer doubles the size."""
        kernel = self.resample_filter if self.up else None
        x = modulated_conv(x, self.weight, self.affine(style), kernel, demodulate=True)
        x = x + self.noise_strength * (self.noise_const if noise is None else noise)
        x = leaky_relu(x + self.bias[:, None, None]) * GAIN
        return clamped(x, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to colours, without demodulation."""

    def __init__(self, c_in: int, dim: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = Dense(dim, c_in)
        self.weight = nn.Parameter(torch.empty(3, c_in, 1, 1))
        self.bias = nn.Parameter(torch.empty(3))
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, 3, s, s)``."""
        x = modulated_conv(x, self.weight, self.affine(style), demodulate=False)
        return clamped(x + self.bias[:, None, None], self.clamp)


class SynthesisBlock(nn.Module):
    """All that happens at one size: one or two convolutions, colours."""

    resample_filter: Tensor

    def __init__(self, c_in: int, c_out: int, dim: int, size: int, clamp: float | None) -> None:
        super().__init__()
        if c_in:
            self.conv0 = SynthesisLayer(c_in, c_out, dim, size, clamp, up=True)
        else:
            self.const = nn.Parameter(torch.empty(c_out, size, size))
        self.conv1 = SynthesisLayer(c_out, c_out, dim, size, clamp, up=False)
        self.torgb = ToRGB(c_out, dim, clamp)
        self.register_buffer("resample_filter", fir_kernel())

    def colours(self, x: Tensor, rgb: Tensor | None, style: Tensor) -> Tensor:
        """Add this size's colours to the upsampled image ``rgb`` of half the size."""
        colours: Tensor = self.torgb(x, style)
        return colours if rgb is None else fir_upsample(rgb, self.resample_filter) + colours
