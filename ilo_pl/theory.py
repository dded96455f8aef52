"""Section 3 of the ILO paper (arXiv 2102.07364) in numbers: how many measurements an extended range needs.

The setting: G = G2 after G1, with G1 from R^k to R^p L1-Lipschitz and G2 from R^p to R^n L2-Lipschitz, all
norms Euclidean. The search is over the extended range G2(G1(B_2^k(r1)) + B_1^p(r2)), where r2 = delta / K:
the l1 ball is 1/K of the accuracy delta that is asked for in the image.

The bounds are derived here (docs/theory.md) in the way of Bora et al. 2017 (arXiv 1703.03208), whose Lemma
4.1 counts the points of a net. What their proof hides in "Omega" is one factor, the argument ``constant``;
with 1, bounds can be compared with each other and not read as numbers of measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ilo_pl import rng
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.operators import DenseGaussian, LinearOperator, PartialCirculant

Matrix = Literal["gaussian", "circulant"]


@dataclass(frozen=True)
class Setting:
    """What the bounds depend on.

    Args:
        k: dimension of the latent.
        p: number of scalars of the split state.
        lipschitz1, lipschitz2: Lipschitz constants of G1 and G2, image units per latent unit.
        r1: radius of the l2 ball of latents.
        delta: accuracy in the image, an l2 norm over all its scalars.
        K: delta / r2, how much smaller than delta the l1 ball is.
        gamma: constant of the set-restricted eigenvalue condition, in (0, 1).

    Raises:
        ConfigurationError: a value is out of its range.
    """

    k: int
    p: int
    lipschitz1: float
    lipschitz2: float
    r1: float
    delta: float
    K: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("k", "p", "lipschitz1", "lipschitz2", "r1", "delta", "K"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} = {getattr(self, name)}; it must be above 0.")
        if not 0 < self.gamma < 1:
            raise ConfigurationError(f"gamma = {self.gamma}; it lies between 0 and 1.")

    @property
    def r2(self) -> float:
        """Radius of the l1 ball around the range of G1."""
        return self.delta / self.K


def l2_ball_log_cover(dimension: int, radius: float, scale: float) -> float:
    """Return log of (1 + 2 r/s)^d, which covers an l2 ball of radius r by balls of radius s."""
    return dimension * math.log1p(2 * radius / scale)


def l1_ball_log_cover(dimension: int, radius: float, scale: float) -> float:
    """Return the log of a number of l2 balls of radius ``scale`` that cover an l1 ball (Maurey).

    A point of the l1 ball is the mean of a random vertex +-r e_i (or 0); the average of s such draws is
    r / sqrt(s) away on average, so s = ceil((r / scale)^2) draws come near enough, and there are at most
    (2 d + 1)^s averages.
    """
    return math.ceil((radius / scale) ** 2) * math.log(2 * dimension + 1)


def ilo_log_cover(setting: Setting) -> tuple[float, float]:
    """Return the two parts of the log size of a delta-net of the extended range.

    Each part of the sum G1(B_2) + B_1 is covered at scale delta / (2 L2), so that G2 of the sum is covered
    at delta.

    Returns:
        What the range of G1 costs, about k log(L1 L2 r1 / delta), and what its dilation adds, about
        (L2 / K)^2 log p.
    """
    scale = setting.delta / (2 * setting.lipschitz2)
    within = l2_ball_log_cover(setting.k, setting.r1, scale / setting.lipschitz1)
    return within, l1_ball_log_cover(setting.p, setting.r2, scale)


def csgm_log_cover(setting: Setting) -> float:
    """Return the log size of a delta-net of the range itself (Bora et al. 2017, Lemma 4.1; Remark 2)."""
    lipschitz = setting.lipschitz1 * setting.lipschitz2
    return l2_ball_log_cover(setting.k, setting.r1, setting.delta / lipschitz)


def layer_log_cover(setting: Setting) -> float:
    """Return the log size of a delta-net of G2 of an l2 ball that holds G1's range: a search without ILO.

    An intermediate layer that is searched freely has p dimensions, each of which costs.
    """
    radius = setting.lipschitz1 * setting.r1
    return l2_ball_log_cover(setting.p, radius, setting.delta / setting.lipschitz2)


def measurements_needed(log_cover: float, gamma: float, constant: float = 1.0) -> float:
    """Return the number of Gaussian measurements for S-REC(gamma, delta) on a set with such a net.

    constant * log N / (1 - gamma)^2 (Bora et al. 2017, Lemma 4.1, where gamma = 1 - alpha); it holds but
    for a probability of exp(-Omega((1 - gamma)^2 m)).
    """
    return constant * log_cover / (1 - gamma) ** 2


def error_bound(
    representation: float, noise: float, slack: float, delta: float, gamma: float
) -> float:
    """Return the bound on the l2 error of the image found (Bora et al. 2017, Lemma 4.3).

    (1 + 4 / gamma) * representation + (2 * noise + slack + delta) / gamma, when A satisfies
    S-REC(gamma, delta) on the set and does not stretch the best point's error more than twice.

    Args:
        representation: l2 distance of the true image from the best point of the searched set.
        noise: l2 norm of the noise on the measurements.
        slack: how far the search is from the smallest measurement error.
        delta: accuracy of the condition.
        gamma: its constant.
    """
    return (1 + 4 / gamma) * representation + (2 * noise + slack + delta) / gamma


def extended_range(
    generator: SplitGenerator, split: int, radius: float, count: int, seed: int
) -> Tensor:
    """Draw images of the extended range: G2(G1(z) + e) with e on the l1 sphere.

    Args:
        generator: the generator.
        split: where it is cut.
        radius: l1 norm of e per scalar of the split state; 0 draws from the range itself.
        count: number of images.
        seed: seed of z and e.

    Returns:
        ``(count, 3, H, W)``.
    """
    ids = [str(i) for i in range(count)]
    z = rng.normal((1, generator.latent_dim), seed, ids, "theory latents")
    styles = generator.to_styles(z, "z").expand(-1, generator.num_slots, -1)
    noises: list[Tensor | None] = [None] * len(generator.noise_shapes)
    images = []
    with torch.no_grad():
        for i, image_id in enumerate(ids):
            here = generator.splits[split]
            state = generator.run({}, styles[i : i + 1], noises, 0, split)
            drawn = {
                name: rng.normal(value.shape[1:], seed, [image_id], f"theory {name}")
                for name, value in state.items()
            }
            total = sum(float(e.abs().sum()) for e in drawn.values())
            for name, e in drawn.items():
                state[name] = state[name] + e * (radius * here.numel / total)
            rest = styles[i : i + 1, here.first_slot :]
            images.append(generator.run(state, rest, noises[here.first_noise :], split)["image"])
    return torch.cat(images)


def make_matrix(
    kind: Matrix, image_shape: tuple[int, int, int], count: int, seed: int
) -> LinearOperator:
    """Return a random matrix of ``count`` rows: i.i.d. Gaussian, or partial circulant with signs."""
    return (DenseGaussian if kind == "gaussian" else PartialCirculant)(image_shape, count, seed)


@torch.no_grad()
def stretch(operator: LinearOperator, images: Tensor) -> Tensor:
    """Return ||A (x - x')|| / ||x - x'|| of every pair of images ``(N, C, H, W)``: ``(N (N - 1) / 2,)``.

    The least of them is an upper estimate of gamma (with delta = 0) on the set that the images come from:
    more pairs can only lower it.
    """
    measured = torch.cat([operator(image[None]) for image in images]).flatten(1).double()
    flat = images.flatten(1).double()
    return torch.pdist(measured) / torch.pdist(flat)
