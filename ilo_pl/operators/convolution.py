"""Convolution with any kernel, for example that of a camera that moved."""

from __future__ import annotations

import math
from typing import Self, final

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import LinearOperator
from ilo_pl.operators.separable import mirror
from ilo_pl.operators.spectrum import Spectrum


def motion_kernel(length: float, angle: float) -> Tensor:
    """Return how long a point that moves along a straight line spends on each pixel.

    The line is centred; a point between pixels counts for its four neighbours bilinearly, so that the
    line is anti-aliased. The integral along the line is exact: between two crossings of the grid the
    bilinear weights are quadratic, and Simpson's rule integrates those without error.

    Args:
        length: length of the path in pixels, above 0.
        angle: direction in degrees, counter-clockwise from the right; 0 is horizontal, 90 vertical.

    Returns:
        float64 ``(h, w)`` with odd sides and sum 1.
    """
    radians = math.radians(angle)
    step = torch.tensor([-math.sin(radians), math.cos(radians)], dtype=torch.float64)
    step[step.abs() < 1e-12] = 0
    ends = step.abs() * length / 2
    reach = [int(end) + 1 for end in ends.tolist()]
    cuts = [torch.tensor([-length / 2, length / 2], dtype=torch.float64)]
    for way, size in zip(step.tolist(), reach, strict=True):
        if way:
            cuts.append(torch.arange(-size, size + 1, dtype=torch.float64) / way)
    at = torch.cat(cuts).clamp(-length / 2, length / 2).sort().values
    first, last = at[:-1], at[1:]
    middle = (first + last) / 2
    cell = torch.floor(middle[:, None] * step).long()
    kernel = torch.zeros(2 * reach[0] + 1, 2 * reach[1] + 1, dtype=torch.float64)
    for place, share in ((first, 1), (middle, 4), (last, 1)):
        part = (place[:, None] * step - cell).clamp(0, 1)
        for down in (0, 1):
            for right in (0, 1):
                near = part[:, 0] if down else 1 - part[:, 0]
                weight = near * (part[:, 1] if right else 1 - part[:, 1])
                index = (cell[:, 0] + reach[0] + down, cell[:, 1] + reach[1] + right)
                kernel.index_put_(index, weight * share * (last - first), accumulate=True)
    kernel = kernel / kernel.sum()
    rows, columns = (max(0, r - math.ceil(e)) for r, e in zip(reach, ends.tolist(), strict=True))
    return kernel[rows : len(kernel) - rows, columns : kernel.shape[1] - columns]


@final
class Convolution(LinearOperator):
    """Convolve each channel with a kernel; beyond the border the image is mirrored.

    y[i] = sum_j k[j] x[i + c - j] with c half the kernel's size, rounded down. The border pixel is not
    repeated (``mode="mirror"`` of scipy.ndimage). By FFT: the kernel's size costs little.

    Args:
        kernel: ``(h, w)``.
        image_shape: shape of the images.

    Raises:
        ConfigurationError: the kernel has another shape, or numbers that are not finite.
    """

    kernel: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, kernel: Tensor, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        if kernel.ndim != 2 or not kernel.numel() or not bool(torch.isfinite(kernel).all()):
            raise ConfigurationError(
                f"A kernel is a matrix (h, w) of finite numbers; got shape {tuple(kernel.shape)}."
            )
        self.register_buffer("kernel", kernel.float())
        for name, size, taps in zip(
            ("rows", "columns"), image_shape[1:], kernel.shape, strict=True
        ):
            # Pixel i of the padded image is this pixel of the image itself.
            padded = torch.arange(taps // 2 + 1 - taps, size + taps // 2)
            self.register_buffer(name, mirror(padded, size), persistent=False)
        self._padded = (len(self.rows), len(self.columns))
        self._spectrum = Spectrum(self._transform)

    @classmethod
    def motion_blur(
        cls, image_shape: tuple[int, int, int], length: float, angle: float = 0.0
    ) -> Self:
        """Blur as a camera does that moves evenly along a straight line.

        Args:
            image_shape: shape of the images.
            length: length of the path in pixels.
            angle: its direction in degrees, counter-clockwise from the right.

        Raises:
            ConfigurationError: the length is not above 0 or beyond the longer side of the image, or
                the angle is not finite.
        """
        longest = max(image_shape[1:])
        if not 0 < length <= longest:
            raise ConfigurationError(
                f"length = {length}; a path is longer than 0 pixels and, in these images, at most "
                f"{longest}."
            )
        if not math.isfinite(angle):
            raise ConfigurationError(f"angle = {angle}; give a number of degrees.")
        return cls(motion_kernel(length, angle), image_shape)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """The image's shape."""
        return self.image_shape

    def measure(self, images: Tensor) -> Tensor:
        """Mirror the border, convolve, and keep what lies within the image."""
        padded = images.index_select(2, self.rows).index_select(3, self.columns)
        product = torch.fft.rfft2(padded) * self._spectrum(self.kernel)
        convolved: Tensor = torch.fft.irfft2(product, self._padded)
        return convolved[..., self.kernel.shape[0] - 1 :, self.kernel.shape[1] - 1 :]

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Correlate, and fold the mirrored border back onto the pixels it came from."""
        padded = measurements.new_zeros(*measurements.shape[:2], *self._padded)
        padded[..., self.kernel.shape[0] - 1 :, self.kernel.shape[1] - 1 :] = measurements
        product = torch.fft.rfft2(padded) * self._spectrum(self.kernel).conj()
        spread: Tensor = torch.fft.irfft2(product, self._padded)
        height, width = self.image_shape[1:]
        folded = spread.new_zeros(*spread.shape[:2], height, self._padded[1])
        folded = folded.index_add(2, self.rows, spread)
        return folded.new_zeros(*spread.shape[:2], height, width).index_add(3, self.columns, folded)

    def _transform(self, kernel: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft2(kernel, self._padded)
        return spectrum
