"""Layers of BigGAN-deep with the parameter names of the package ``pytorch-pretrained-biggan``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of batch normalisation, in all published networks.
EPS = 1e-4
REDUCTION = 4


class Spectral(nn.Module):
    """A weight divided by its largest singular value, which two stored vectors give."""

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, shape: tuple[int, ...], *, bias: bool) -> None:
        super().__init__()
        self.weight_orig = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        self.register_buffer("weight_u", torch.empty(shape[0]))
        self.register_buffer("weight_v", torch.empty(math.prod(shape[1:])))

    @property
    def weight(self) -> Tensor:
        """The weight over u' W v."""
        sigma = (self.weight_u * (self.weight_orig.flatten(1) * self.weight_v).sum(1)).sum()
        return self.weight_orig / sigma

    def estimate(self, rng: torch.Generator, steps: int = 30) -> None:
        """Set the vectors by power iteration."""
        matrix = self.weight_orig.detach().flatten(1)
        u = torch.randn(len(matrix), generator=rng)
        for _ in range(steps):
            v = F.normalize(matrix.T @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
        self.weight_u.copy_(u)
        self.weight_v.copy_(v)


class SpectralLinear(Spectral):
    """Linear layer, ``(B, n_in)`` -> ``(B, n_out)``."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True) -> None:
        super().__init__((n_out, n_in), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight, self.bias)


class SpectralConv(Spectral):
    """Convolution that keeps the size."""

    def __init__(self, c_in: int, c_out: int, size: int, *, bias: bool = True) -> None:
        super().__init__((c_out, c_in, size, size), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.conv2d(x, self.weight, self.bias, padding=self.weight_orig.shape[-1] // 2)


class BatchNorm(nn.Module):
    """Normalisation by stored statistics of a truncation; gain and bias are those of the condition.

    Args:
        channels: channels.
        n_stats: truncations that statistics are stored for, evenly from 0 to 1.
        condition: size of the condition; 0 for a gain and bias of its own.
    """

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, n_stats: int, condition: int = 0) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(n_stats, channels))
        self.register_buffer("running_vars", torch.ones(n_stats, channels))
        self.conditional = bool(condition)
        if condition:
            self.scale = SpectralLinear(condition, channels, bias=False)
            self.offset = SpectralLinear(condition, channels, bias=False)
        else:
            self.weight = nn.Parameter(torch.empty(channels))
            self.bias = nn.Parameter(torch.empty(channels))

    def _statistics(self, truncation: float) -> tuple[Tensor, Tensor]:
        """Return mean and variance; between two stored truncations they are mixed as the package does."""
        step = 1 / (len(self.running_means) - 1)
        share, index = math.modf(truncation / step)
        i = int(index)
        if share == 0:
            return self.running_means[i], self.running_vars[i]
        # The package weighs the lower one by the share, not by 1 - share; a published network is what
        # its own code computes.
        mean = self.running_means[i] * share + self.running_means[i + 1] * (1 - share)
        return mean, self.running_vars[i] * share + self.running_vars[i + 1] * (1 - share)

    def forward(self, x: Tensor, truncation: float, condition: Tensor | None = None) -> Tensor:
        """``(B, C, h, w)`` -> the same; ``condition`` is ``(B, n)``."""
        mean, variance = self._statistics(truncation)
        x = (x - mean[:, None, None]) * torch.rsqrt(variance + EPS)[:, None, None]
        if condition is None:
            return x * self.weight[:, None, None] + self.bias[:, None, None]
        gain: Tensor = 1 + self.scale(condition)
        bias: Tensor = self.offset(condition)
        return x * gain[:, :, None, None] + bias[:, :, None, None]


class GenBlock(nn.Module):
    """Residual bottleneck of four convolutions that can double the size and drop channels."""

    def __init__(self, c_in: int, c_out: int, condition: int, n_stats: int, *, up: bool) -> None:
        super().__init__()
        middle = c_in // REDUCTION
        shapes = [(c_in, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, c_out, 1)]
        for i, (before, behind, size) in enumerate(shapes):
            self.add_module(f"bn_{i}", BatchNorm(before, n_stats, condition))
            self.add_module(f"conv_{i}", SpectralConv(before, behind, size))
        self.up = up
        self.c_out = c_out

    def forward(self, x: Tensor, condition: Tensor, truncation: float) -> Tensor:
        """``(B, c_in, s, s)`` -> ``(B, c_out, s, s)``, or 2s."""
        skip = x[:, : self.c_out]
        for i in range(4):
            x = F.relu(self.get_submodule(f"bn_{i}")(x, truncation, condition))
            if self.up and i == 1:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.get_submodule(f"conv_{i}")(x)
        if self.up:
            skip = F.interpolate(skip, scale_factor=2.0, mode="nearest")
        return x + skip


class Attention(nn.Module):
    """Self-attention (Zhang et al. 2019, arXiv 1805.08318): queries look at a pooled image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snconv1x1_theta = SpectralConv(channels, channels // 8, 1, bias=False)
        self.snconv1x1_phi = SpectralConv(channels, channels // 8, 1, bias=False)
        self.snconv1x1_g = SpectralConv(channels, channels // 2, 1, bias=False)
        self.snconv1x1_o_conv = SpectralConv(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> the same."""
        query = self.snconv1x1_theta(x).flatten(2)
        key = F.max_pool2d(self.snconv1x1_phi(x), 2).flatten(2)
        value = F.max_pool2d(self.snconv1x1_g(x), 2).flatten(2)
        weights = torch.softmax(query.transpose(1, 2) @ key, -1)
        found = (value @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        attended: Tensor = self.snconv1x1_o_conv(found)
        return x + self.gamma * attended
