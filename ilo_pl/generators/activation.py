"""The activation of StyleGAN's family."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, of any shape."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        # Its derivative takes the sign of x, where F.leaky_relu's keeps a mask: compiled for a CPU, writing
        # and reading booleans takes longer than the convolutions around them. Equal to rounding.
        return (1 + SLOPE) / 2 * x + (1 - SLOPE) / 2 * x.abs()
    return F.leaky_relu(x, SLOPE)
