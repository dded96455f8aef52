"""BM3D (Dabov et al. 2007, doi 10.1109/TIP.2007.901238; Mäkinen et al. 2020, doi 10.1109/TIP.2020.3014721).

It is the authors' package ``bm3d``, an optional extra: its licence allows non-commercial use only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ilo_pl.baselines.packages import imported
from ilo_pl.io.images import GREY_LEVELS


def bm3d(image: Tensor, sigma: float) -> Tensor:
    """Take Gaussian noise off a picture by colour BM3D, profile ``np``, in the opponent colour space.

    Args:
        image: ``(3, H, W)``; [-1, 1] is black to white, noise may lie beyond, and is not clipped first.
        sigma: the noise's standard deviation in 8-bit grey levels.

    Returns:
        ``(3, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: the package ``bm3d`` is not installed.
    """
    unit = ((image.double() + 1) / 2).permute(1, 2, 0).cpu().numpy()
    clean = np.asarray(imported("bm3d").bm3d_rgb(unit, sigma / (2 * GREY_LEVELS)))
    return torch.from_numpy(clean).permute(2, 0, 1).mul(2).sub(1).clamp(-1, 1).float()
