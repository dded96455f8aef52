"""Section 3 of the ILO paper (arXiv 2102.07364) in numbers: how many measurements an extended range needs.

The setting: G = G2 after G1, with G1 from R^k to R^p L1-Lipschitz and G2 from R^p to R^n L2-Lipschitz, all
norms Euclidean. The search is over the extended range G2(G1(B_2^k(r1)) + B_1^p(r2)), where r2 = delta / K:
the l1 ball is 1/K of the accuracy delta that is asked for in the image.

The bounds are derived here, not quoted: docs/theory.md has the steps. They follow Bora et al. 2017 (arXiv
1703.03208), who count the points of a net; that the l1 ball's net is enough takes generic chaining. What the
proofs hide in "Omega" is one factor, the argument ``constant``; with 1, bounds can be compared with each
other and not read as numbers of measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.operators import DenseGaussian, LinearOperator, PartialCirculant
from ilo_pl.paper.theory_keys import Matrix


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
    """Return the log of a number of l2 balls of radius ``scale`` that cover an l1 ball.

    Maurey: a point of the l1 ball is the mean of a random vertex +-r e_i (or 0); the average of s such draws
    is r / sqrt(s) away on average, so s = ceil((r / scale)^2) draws come near enough, and there are at most
    (2 d + 1)^s averages. A wide ball is covered with fewer as a part of the l2 ball of its radius.
    """
    maurey = math.ceil((radius / scale) ** 2) * math.log(2 * dimension + 1)
    return min(maurey, l2_ball_log_cover(dimension, radius, scale))


def ilo_log_cover(setting: Setting) -> tuple[float, float]:
    """Return the two parts of the log size of a delta-net of the extended range.

    Each part of the sum G1(B_2) + B_1 is covered at scale delta / (2 L2), so that G2 of the sum is covered
    at delta.

    Returns:
        What the range of G1 costs, about k log(L1 L2 r1 / delta), and what its dilation adds, about
        (L2 / K)^2 log p, or p log(L2 / K) where that is less.
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
    """Return the number of Gaussian measurements for S-REC(gamma, delta) on a set of this module.

    constant * log N / (1 - gamma)^2, but for a probability of exp(-Omega((1 - gamma)^2 m)). For a range
    this is Lemma 4.1 of Bora et al. 2017 (where gamma = 1 - alpha). A net alone does not give it: what lies
    between its points must not be stretched either, which docs/theory.md shows for these sets.

    Args:
        log_cover: log N, the log size of a delta-net.
        gamma: constant of the condition.
        constant: the factor that the proofs do not name.
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
    generator: SplitGenerator,
    split: int,
    radius: float,
    count: int,
    seed: int,
    nonzeros: int | None = None,
) -> Tensor:
    """Draw images of the extended range: G2(G1(z) + e) with e on the l1 sphere.

    Args:
        generator: the generator.
        split: where it is cut.
        radius: l1 norm of e per scalar of the split state; 0 draws from the range itself.
        count: number of images.
        seed: seed of z and e.
        nonzeros: number of scalars of e that are not 0; all of them by default. The fewer, the longer is e
            in l2, up to its l1 norm at a vertex of the ball.

    Returns:
        ``(count, 3, H, W)``.
    """
    ids = [str(i) for i in range(count)]
    z = seeding.normal((1, generator.latent_dim), seed, ids, "theory latents")
    styles = generator.to_styles(z, "z").expand(-1, generator.num_slots, -1)
    noises: list[Tensor | None] = [None] * len(generator.noise_shapes)
    here = generator.splits[split]
    images = []
    with torch.no_grad():
        for i, image_id in enumerate(ids):
            state = generator.run({}, styles[i : i + 1], noises, 0, split)
            if radius:
                e = _dilation(here.numel, radius, seed, image_id, nonzeros)
                pieces = e.split_with_sizes([value.numel() for value in state.values()])
                for (name, value), piece in zip(list(state.items()), pieces, strict=True):
                    state[name] = value + piece.view_as(value)
            rest = styles[i : i + 1, here.first_slot :]
            images.append(generator.run(state, rest, noises[here.first_noise :], split)["image"])
    return torch.cat(images)


def _dilation(numel: int, radius: float, seed: int, image_id: str, nonzeros: int | None) -> Tensor:
    """Draw a point of the l1 sphere whose radius is given per scalar."""
    e = seeding.normal((numel,), seed, [image_id], "theory dilation")[0]
    if nonzeros is not None:
        kept = e.abs().topk(min(nonzeros, numel)).indices
        e = torch.zeros_like(e).index_copy(0, kept, e[kept])
    return e * (radius * numel / e.abs().sum())


def make_matrix(
    kind: Matrix, image_shape: tuple[int, int, int], count: int, seed: int
) -> LinearOperator:
    """Return a random matrix of ``count`` rows: i.i.d. Gaussian, or partial circulant with signs."""
    return (DenseGaussian if kind == "gaussian" else PartialCirculant)(image_shape, count, seed)


@torch.no_grad()
def stretch(operator: LinearOperator, images: Tensor, counts: Sequence[int]) -> Tensor:
    """Return ||A_m (x - x')|| / ||x - x'|| of every pair of images, for several numbers m of measurements.

    The least of a row is an upper estimate of gamma (with delta = 0) on the set that the images come from:
    more pairs can only lower it.

    Args:
        operator: a matrix of :func:`make_matrix` with M rows. A_m is made of its first m rows, times
            sqrt(M / m): a matrix of the same kind, so that all m share one application.
        images: ``(N, C, H, W)``.
        counts: the numbers m, at most M.

    Returns:
        float64 ``(len(counts), N (N - 1) / 2)``.
    """
    measured = torch.cat([operator(image[None]) for image in images]).double()
    distances = torch.pdist(images.flatten(1).double())
    rows = measured.shape[1]
    return torch.stack(
        [torch.pdist(measured[:, :m]) * math.sqrt(rows / m) / distances for m in counts]
    )
