"""BM3D as a denoiser."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ilo_pl.baselines.bm3d import bm3d
from ilo_pl.baselines.packages import imported
from ilo_pl.denoisers.base import Denoiser
from ilo_pl.io.images import GREY_LEVELS


@final
class BM3DDenoiser(Denoiser):
    """Block matching and 3D filtering, on the CPU; its licence allows non-commercial use only.

    Raises:
        ConfigurationError: the package is not installed.
    """

    def __init__(self) -> None:
        imported("bm3d")

    @torch.no_grad()
    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Denoise pictures one after the other."""
        levels = (sigma * GREY_LEVELS).tolist()
        cleaned = [bm3d(image, level) for image, level in zip(images, levels, strict=True)]
        return torch.stack(cleaned).to(images)
