"""The samplers: Metropolis-adjusted, preconditioned, and proximal; and where their random numbers come from."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.inversion.langevin import Langevin
from ilo_pl.inversion.packing import row_sums


class ChainDraws:
    """Random numbers of chains, keyed by image, chain and step; a :data:`~ilo_pl.inversion.langevin.Draw`.

    Args:
        seed: the run's seed.
        ids: ids of the images.
        chains: how many chains each image has; they follow each other.
    """

    def __init__(self, seed: int, ids: Sequence[str], chains: int) -> None:
        self._keys = [(seed, i, f"langevin, chain {c}") for i in ids for c in range(chains)]

    def __call__(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Return the numbers of a step."""
        streams = [seeding.stream(*key, step) for key in self._keys]
        normal = torch.stack([torch.randn(size, generator=stream) for stream in streams])
        return normal, torch.stack([torch.rand(2, generator=stream) for stream in streams])


class Adjusted(Langevin, abc.ABC):
    """Refuses as Metropolis and Hastings do: exact at any step."""

    def accepts(self, ratio: Tensor, uniform: Tensor) -> Tensor:
        """Return where the ratio is above a uniform number."""
        return uniform.to(ratio).log() < ratio


@final
class Hamiltonian(Adjusted):
    """Several gradients in a row before it decides (HMC; Neal 2011, arXiv 1206.1901); their strides vary by a fifth."""

    target = 0.7
    stray = 0.2


@final
class MetropolisLangevin(Adjusted):
    """Metropolis-adjusted (MALA; Roberts and Tweedie 1996): exact at any step, with the acceptance of their 1998 paper."""

    target = 0.574


class Unadjusted(Langevin, abc.ABC):
    """Goes wherever it proposes; its bias is that of t, which is chosen so that few proposals would be refused."""

    target = 0.95

    def accepts(self, ratio: Tensor, uniform: Tensor) -> Tensor:
        """Return true."""
        return torch.ones_like(uniform, dtype=torch.bool)


@final
class PreconditionedLangevin(Unadjusted):
    """Preconditioned by squared gradients (pSGLD, Li et al. 2016, arXiv 1512.07666), here frozen behind the burn-in.

    M is their inverse and not its root: for a Gaussian that is the inverse of its precisions (Titsias 2023,
    arXiv 2305.14442).
    """


@final
class ProximalLangevin(Unadjusted):
    """Proximal in the l1 terms (MYULA; Durmus et al. 2018, arXiv 1612.07471), smooth in the others.

    The gradient of ||x||_1 is that of its Moreau envelope, (x - prox(x)) / lambda with lambda = 2 t M; the energy's
    gradient is without it.
    """

    def force(self, at: Tensor, gradient: Tensor, l1: Tensor, width: Tensor) -> Tensor:
        """Return the gradient with that of the envelope."""
        return gradient + l1 * (at / (2 * width)).clamp(-1, 1)

    def cost(self, at: Tensor, l1: Tensor, width: Tensor) -> Tensor | float:
        """Return the envelope's difference to ||x||_1."""
        inside = (2 * width - at.abs()).clamp(min=0)
        # It is x^2 / (2 lambda) up to lambda, and |x| - lambda / 2 beyond it.
        return row_sums(l1 * (inside.square() / (4 * width) - width))


SAMPLERS: dict[str, type[Langevin]] = {
    "hmc": Hamiltonian,
    "mala": MetropolisLangevin,
    "langevin": PreconditionedLangevin,
    "proximal": ProximalLangevin,
}
