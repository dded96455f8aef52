"""Operators that act on each pixel by itself."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import LinearOperator

# ITU-R BT.601 luma.
LUMA = (0.299, 0.587, 0.114)


@final
class Identity(LinearOperator):
    """Measure the image itself: inversion, and denoising once there is noise."""

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """The image's shape."""
        return self.image_shape

    @property
    def pixelwise(self) -> bool:
        """Nothing happens to any pixel."""
        return True

    def measure(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Return the measurements."""
        return measurements

    def correction(self, residual: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Return r / (1 + rho)."""
        return residual / (1 + rho)


@final
class Grey(LinearOperator):
    """Keep the luma of each pixel; what is sought is its colour.

    Args:
        image_shape: shape ``(3, H, W)`` of the images.
    """

    weights: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        if image_shape[0] != 3:
            raise ConfigurationError(f"Grey needs images of three channels; got {image_shape[0]}.")
        self.register_buffer("weights", torch.tensor(LUMA).view(1, 3, 1, 1))

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(1, H, W)``."""
        return 1, *self.image_shape[1:]

    @property
    def pixelwise(self) -> bool:
        """The luma of a pixel is made of its own channels."""
        return True

    def measure(self, images: Tensor) -> Tensor:
        """Return the luma."""
        return (images * self.weights).sum(1, keepdim=True)

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Spread the luma over the channels by its weights."""
        return measurements * self.weights

    def correction(self, residual: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Return ``A* r / (|w|^2 + rho)``, w the luma's weights."""
        return self.adjoint(residual) / (self.weights.square().sum() + rho)

    def picture(self, measurements: Tensor) -> Tensor:
        """Return the luma as a grey picture."""
        return measurements.clamp(-1, 1).expand(-1, 3, -1, -1)
