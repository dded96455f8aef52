"""Latent spaces shared by generators that have a mapping network z -> w.

- ``z``: the input of the mapping network, N(0, 1).
- ``w``: its output, the style itself.
- ``v``: PULSE's Gaussianised w. The mapping network ends in a leaky ReLU of slope 0.2; undoing it
  (slope 5) leaves numbers that are close to normal, which are then standardised per coordinate
  (Menon et al. 2020, arXiv 2003.03808, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.generators.activation import SLOPE

SPACES = ("z", "v", "w")


def w_to_v(w: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Gaussianise w with the mean and standard deviation of its unrectified coordinates."""
    return (F.leaky_relu(w, 1 / SLOPE) - mean) / std


def v_to_w(v: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Undo :func:`w_to_v`."""
    return F.leaky_relu(v * std + mean, SLOPE)


@torch.no_grad()
def v_statistics(
    mapping: Callable[[Tensor], Tensor], dim: int, samples: int, seed: int = 0, chunk: int = 10_000
) -> tuple[Tensor, Tensor]:
    """Measure mean and standard deviation of the unrectified w, each ``(D,)``, in float64 sums.

    Args:
        mapping: network from z ``(N, dim)`` to w ``(N, D)``.
        dim: size of z.
        samples: number of z ~ N(0, 1) to average over.
        seed: seed of those z.
        chunk: how many at a time.
    """
    generator = torch.Generator().manual_seed(seed)
    total, squares = torch.zeros(2, 1, dtype=torch.float64)
    done = 0
    while done < samples:
        n = min(chunk, samples - done)
        unrectified = F.leaky_relu(mapping(torch.randn(n, dim, generator=generator)), 1 / SLOPE)
        total = total + unrectified.double().sum(0)
        squares = squares + unrectified.double().square().sum(0)
        done += n
    mean = total / samples
    return mean.float(), (squares / samples - mean.square()).sqrt().float()


@torch.no_grad()
def mean_style(mapping: nn.Module, dim: int, samples: int = 20_000) -> Tensor:
    """Estimate the mean of w, ``(dim,)``, to 1/141 of its standard deviation.

    Args:
        mapping: network from z ``(N, dim)`` to w ``(N, dim)``.
        dim: latent dimension.
        samples: number of z ~ N(0, 1) to average over.
    """
    device = next((p.device for p in mapping.parameters()), torch.device("cpu"))
    draws = torch.randn(samples, dim, generator=torch.Generator().manual_seed(0))
    mean: Tensor = mapping(draws.to(device)).mean(0)
    return mean


class LatentSpaces(nn.Module):
    """Map latents of the spaces z, v and w to styles.

    Args:
        mapping: the network z -> w.
        dim: latent dimension D.
    """

    v_mean: Tensor
    v_std: Tensor

    def __init__(self, mapping: nn.Module, dim: int) -> None:
        super().__init__()
        self.mapping = mapping
        self.register_buffer("v_mean", torch.zeros(dim))
        self.register_buffer("v_std", torch.ones(dim))

    def forward(self, latents: Tensor, space: str) -> Tensor:
        """Return styles of the shape of ``latents`` ``(B, n, D)``."""
        if space == "w":
            return latents
        if space == "v":
            return v_to_w(latents, self.v_mean, self.v_std)
        styles: Tensor = self.mapping(latents.flatten(0, 1))
        return styles.view_as(latents)

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Return latents of a space drawn as ``normal`` says; zeros give the mean of the space.

        z and v are normal themselves. A draw in w is a z sent through the mapping network.
        """
        if space != "w":
            return normal
        if not bool(normal.any()):
            return mean_style(self.mapping, normal.shape[-1]).expand_as(normal).clone()
        with torch.no_grad():
            styles: Tensor = self(normal, "z")
        return styles
