"""Compressed sensing: random linear measurements of all pixels together."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import LinearOperator
from ilo_pl.operators.spectrum import Spectrum

# One float32 matrix of this many entries is 4 GiB.
MAX_DENSE = 2**30


def _check_count(count: int, unknowns: int) -> None:
    if not 1 <= count <= unknowns:
        raise ConfigurationError(
            f"{count} measurements of {unknowns} unknowns; give a number from 1 to {unknowns}."
        )


@final
class PartialCirculant(LinearOperator):
    """The first m rows of a circulant matrix with random signs (Lemma 1 of the ILO paper).

    y = (C(g) D x)[:m], where D flips the sign of each scalar at random and C(g) is the circulant matrix of
    a random vector g with entries N(0, 1/m). Applied by FFT: time O(n log n), memory O(n).

    Args:
        image_shape: shape of the images; n is its number of scalars.
        count: number of measurements m.
        seed: seed of g and D.

    Raises:
        ConfigurationError: ``count`` is not between 1 and n.
    """

    column: Tensor
    signs: Tensor

    def __init__(self, image_shape: tuple[int, int, int], count: int, seed: int) -> None:
        super().__init__(image_shape)
        self.unknowns = math.prod(image_shape)
        _check_count(count, self.unknowns)
        self.count_measured = count
        column = torch.randn(self.unknowns, generator=seeding.stream(seed, "", "circulant"))
        signs = torch.randint(0, 2, (self.unknowns,), generator=seeding.stream(seed, "", "signs"))
        self.register_buffer("column", column / math.sqrt(count))
        self.register_buffer("signs", signs.float() * 2 - 1)
        self._spectrum = Spectrum(torch.fft.rfft)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(m,)``."""
        return (self.count_measured,)

    def measure(self, images: Tensor) -> Tensor:
        """Return the first m entries of the circular convolution of g with the flipped image."""
        flipped = torch.fft.rfft(images.flatten(1) * self.signs)
        product: Tensor = torch.fft.irfft(flipped * self._spectrum(self.column), self.unknowns)
        return product[:, : self.count_measured]

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Correlate with g and flip back."""
        padded = torch.fft.rfft(measurements, self.unknowns)
        product = padded * self._spectrum(self.column).conj()
        flipped: Tensor = torch.fft.irfft(product, self.unknowns) * self.signs
        return flipped.view(-1, *self.image_shape)


@final
class DenseGaussian(LinearOperator):
    """A matrix of independent N(0, 1/m) entries, kept whole: for small images.

    Args:
        image_shape: shape of the images; n is its number of scalars.
        count: number of measurements m.
        seed: seed of the matrix.

    Raises:
        ConfigurationError: ``count`` is not between 1 and n, or the matrix would be too large.
    """

    matrix: Tensor

    def __init__(self, image_shape: tuple[int, int, int], count: int, seed: int) -> None:
        super().__init__(image_shape)
        unknowns = math.prod(image_shape)
        _check_count(count, unknowns)
        if count * unknowns > MAX_DENSE:
            raise ConfigurationError(
                f"A dense matrix of {count} x {unknowns} would take {count * unknowns * 4 / 2**30:.0f} "
                "GiB.",
                hint="Use the circulant operator, which needs no matrix, or fewer measurements.",
            )
        matrix = torch.randn(count, unknowns, generator=seeding.stream(seed, "", "gaussian"))
        self.register_buffer("matrix", matrix / math.sqrt(count))

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(m,)``."""
        return (self.matrix.shape[0],)

    def measure(self, images: Tensor) -> Tensor:
        """Return M x."""
        return images.flatten(1) @ self.matrix.T

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Return M^T y."""
        return (measurements @ self.matrix).view(-1, *self.image_shape)
