"""Denoisers by name: what deviations from the generator's picture are regularised by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from ilo_pl.denoisers.base import Denoiser
from ilo_pl.denoisers.bm3d import BM3DDenoiser
from ilo_pl.denoisers.learned import LearnedDenoiser
from ilo_pl.denoisers.tv import TotalVariation

DenoiserName = Literal["learned", "tv", "bm3d"]
# Here denoisers are registered; what is not in the type above cannot be chosen.
DENOISERS: dict[str, Callable[[], Denoiser]] = {
    "learned": LearnedDenoiser,
    "tv": TotalVariation,
    "bm3d": BM3DDenoiser,
}
assert set(DENOISERS) == set(get_args(DenoiserName))

__all__ = [
    "DENOISERS",
    "BM3DDenoiser",
    "Denoiser",
    "DenoiserName",
    "LearnedDenoiser",
    "TotalVariation",
]
