"""BM3D (Dabov et al. 2007, doi:10.1109/TIP.2007.901238), from the package of that name."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ilo_pl.denoisers.base import Denoiser
from ilo_pl.errors import ConfigurationError


@final
class BM3DDenoiser(Denoiser):
    """Block matching and 3D filtering, on the CPU; its licence allows non-commercial use only.

    Raises:
        ConfigurationError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            import bm3d
        except ImportError:
            raise ConfigurationError(
                "The denoiser bm3d needs the package bm3d (non-commercial use only).",
                hint="pip install 'ilo_pl[bm3d]', or another denoiser.",
            ) from None
        self._bm3d = bm3d.bm3d_rgb

    @torch.no_grad()
    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Denoise pictures one after the other."""
        cleaned = [
            torch.from_numpy(
                self._bm3d(image.permute(1, 2, 0).double().cpu().numpy(), float(level))
            )
            for image, level in zip(images, sigma, strict=True)
        ]
        return torch.stack(cleaned).permute(0, 3, 1, 2).to(images)
