"""Terms that look at the latents still in use and at nothing else."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from ilo_pl.losses.base import LossInputs, LossTerm


def geodesic_cross(latents: Tensor) -> Tensor:
    """Return how far the latents of one image lie apart on the sphere: PULSE's GEOCROSS.

    The mean over all pairs of slots, a slot with itself included, of D * theta^2 / 8, where theta is the
    angle between two latents and D their dimension (Menon et al. 2020, arXiv 2003.03808, section 4.2,
    with the scale of its published code, in which D = 512).

    Args:
        latents: ``(B, n, D)``.

    Returns:
        ``(B,)``; zero where there is but one latent.
    """
    dimension = latents.shape[-1]
    first, second = latents[:, :, None], latents[:, None]
    # atan2 of half chords, for vectors of about equal length; stable where acos of a cosine is not.
    # The small number keeps the root differentiable at zero, as in PULSE.
    apart = ((first - second).square().sum(-1) + 1e-9).sqrt()
    sum_ = ((first + second).square().sum(-1) + 1e-9).sqrt()
    angle = 2 * torch.atan2(apart, sum_)
    return angle.square().mean((1, 2)) * dimension / 8


def mean_square(latents: Tensor) -> Tensor:
    """Return the mean of the squares of an image's latents, ``(B, n, D)`` to ``(B,)``.

    For latents in z or v this is, up to scale and a constant, minus the log density of N(0, 1).
    """
    return latents.square().flatten(1).mean(1)


def spread(latents: Tensor) -> Tensor:
    """Return how far the latents of one image lie from their mean: the mean square, ``(B, n, D)`` to ``(B,)``.

    With one latent for all slots it is zero; encoders keep it small for the same reason (the delta regularisation of
    Tov et al. 2021, arXiv 2102.02766).
    """
    return mean_square(latents - latents.mean(1, keepdim=True))


@final
class GeodesicCross(LossTerm):
    """Keep the latents of the remaining slots near each other (PULSE's GEOCROSS).

    Slots that lie before the split are no variables any more and do not count. The published ILO code
    slices the batch there instead of the slots.
    """

    is_fidelity: ClassVar[bool] = False

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the spread of each image's latents, ``(B,)``."""
        if inputs.latents.shape[1] < 2:
            return inputs.latents.new_zeros(len(inputs.latents))
        return geodesic_cross(inputs.latents)


@final
class LatentPrior(LossTerm):
    """Keep latents in z or v likely under N(0, 1): the penalty ||z||^2 of CSGM (Bora et al. 2017)."""

    is_fidelity: ClassVar[bool] = False

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the mean square of each image's latents, ``(B,)``."""
        if not inputs.latents.shape[1]:
            return inputs.latents.new_zeros(len(inputs.latents))
        return mean_square(inputs.latents)


@final
class LatentSpread(LossTerm):
    """Keep the latents of the remaining slots near their mean, as one latent for all slots would be."""

    is_fidelity: ClassVar[bool] = False

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the mean square distance of each image's latents from their mean, ``(B,)``."""
        if not inputs.latents.shape[1]:
            return inputs.latents.new_zeros(len(inputs.latents))
        return spread(inputs.latents)
