"""A small denoising network that takes the noise level as an input.

A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) of residual blocks without biases, on four half-resolution phases of
the image (the pixel unshuffle of FFDNet, Zhang et al. 2018, arXiv 1710.04026) with a map of the noise level. Without
biases it is homogeneous in image and noise level together, so that it extends to levels it was not trained on (Mohan et
al. 2020, arXiv 1906.05478).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (48, 96, 160)
DEPTH = 2


def _conv(here: int, there: int) -> nn.Conv2d:
    return nn.Conv2d(here, there, 3, padding=1, bias=False)


class ResidualBlock(nn.Module):
    """x + C(relu(C(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


@final
class DenoisingNetwork(nn.Module):
    """Predict an image from a noisy one.

    Args:
        widths: channels at a half, a quarter, an eighth, ... of the image's resolution.
        depth: residual blocks at each of them, on the way down and on the way up.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depth: int = DEPTH) -> None:
        super().__init__()
        self.scale = 2 ** len(widths)

        def blocks(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))

        self.head = _conv(12 + 1, widths[0])
        self.down = nn.ModuleList(blocks(width) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(blocks(width) for width in widths[:-1])
        self.tail = _conv(widths[0], 12)

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Denoise.

        Args:
            noisy: ``(B, 3, H, W)`` in about [-1, 1]; H and W are multiples of ``scale``.
            sigma: standard deviation of the noise in the same units, ``(B, 1, 1, 1)`` or a map ``(B, 1, H, W)``.
        """
        batch, _, height, width = noisy.shape
        level = sigma.to(noisy).expand(batch, 1, height, width)[:, :, ::2, ::2]
        x = self.head(torch.cat([F.pixel_unshuffle(noisy, 2), level], 1))
        skips = []
        for blocks, shrink in zip(self.down, [*self.shrink, None], strict=True):
            x = blocks(x)
            if shrink is not None:
                skips.append(x)
                x = shrink(x)
        for blocks, grow, skip in zip(
            reversed(self.up), reversed(self.grow), reversed(skips), strict=True
        ):
            x = blocks(grow(x) + skip)
        out: Tensor = noisy - F.pixel_shuffle(self.tail(x), 2)
        return out
