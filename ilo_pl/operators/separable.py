"""Linear operators that act on rows and columns apart: y = R x C^T for each channel."""

from __future__ import annotations

import math
from typing import Self, final

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.resampling import keys_cubic, mirror, resampling_matrix, whole_factors
from ilo_pl.operators.base import LinearOperator
from ilo_pl.operators.spectrum import Spectrum, gram

# Eigenvalues of A A* below this share of the largest are lost in float32.
SMALLEST = 1e-6


def blur_matrix(size: int, sigma: float) -> Tensor:
    """Return the matrix ``(size, size)`` of a Gaussian blur cut at four sigma, mirrored, float64."""
    reach = min(math.ceil(4 * sigma), size - 1)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    taps = torch.arange(size)[:, None] + offsets
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, mirror(taps, size), (weights / weights.sum()).expand(size, -1))


@final
class Separable(LinearOperator):
    """Multiply columns and rows of each channel by a matrix each.

    Args:
        rows: ``(h, H)``, acts along the height.
        columns: ``(w, W)``, acts along the width.
        channels: number of image channels.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, channels: int = 3) -> None:
        super().__init__((channels, rows.shape[1], columns.shape[1]))
        self.register_buffer("rows", rows.float())
        self.register_buffer("columns", columns.float())
        self._row_basis = Spectrum(gram)
        self._column_basis = Spectrum(gram)

    @classmethod
    def bicubic(cls, image_shape: tuple[int, int, int], factor: int) -> Self:
        """Down-sample by an integer factor: bicubic (a = -0.5) with anti-aliasing.

        Raises:
            ConfigurationError: the factor does not divide the image's height and width.
        """
        channels, height, width = image_shape
        if factor < 1 or height % factor or width % factor:
            raise ConfigurationError(
                f"factor = {factor} does not divide an image {width} pixels wide and {height} high.",
                choices=map(str, whole_factors((height, width))),
            )
        return cls(resampling_matrix(height, factor), resampling_matrix(width, factor), channels)

    @classmethod
    def gaussian_blur(cls, image_shape: tuple[int, int, int], sigma: float) -> Self:
        """Blur with a Gaussian of standard deviation ``sigma`` pixels.

        Raises:
            ConfigurationError: sigma is not positive.
        """
        if not sigma > 0:
            raise ConfigurationError(f"sigma = {sigma}; a blur needs a width above 0 pixels.")
        channels, height, width = image_shape
        return cls(blur_matrix(height, sigma), blur_matrix(width, sigma), channels)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(C, h, w)``."""
        return self.image_shape[0], self.rows.shape[0], self.columns.shape[0]

    def measure(self, images: Tensor) -> Tensor:
        """Return R x C^T."""
        return self.rows @ images @ self.columns.T

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Return R^T y C."""
        return self.rows.T @ measurements @ self.columns

    @torch.no_grad()
    def correction(self, residual: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Return A* (A A* + rho I)^-1 r, in the bases that diagonalise R R^T and C C^T.

        Of a blur, whose smallest eigenvalues are below rounding, those components are left alone.
        """
        down, left = self._row_basis(self.rows)
        across, right = self._column_basis(self.columns)
        power = down[:, None] * across
        lost = power <= power.max() * SMALLEST
        inverse = (1 / (power + rho).clamp(min=1e-30)).masked_fill(lost, 0.0)
        return self.adjoint(left @ ((left.T @ residual @ right) * inverse) @ right.T)


__all__ = ["Separable", "blur_matrix", "keys_cubic", "mirror", "resampling_matrix"]
