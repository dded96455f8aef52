"""Inpainting: some pixels are measured, the others are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.operators.base import LinearOperator


@final
class Mask(LinearOperator):
    """Keep the observed pixels and set the missing ones to zero (mid-grey of [-1, 1]).

    Missing is what the mask says; the colour of a pixel says nothing, so a black pixel is a pixel.

    Args:
        mask: ``(H, W)``, ``(1, H, W)``, ``(1, 1, H, W)`` or, one for each image, ``(B, 1, H, W)``;
            true or 1 where a pixel is observed.
        channels: number of image channels.

    Raises:
        InputError: the mask has another shape, values other than 0 and 1, or observes nothing.
    """

    per_image: ClassVar[tuple[str, ...]] = ("mask",)
    mask: Tensor

    def __init__(self, mask: Tensor, channels: int = 3) -> None:
        mask = mask.float()
        while mask.ndim < 4:
            mask = mask[None]
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise InputError(f"A mask has shape (H, W) or (B, 1, H, W); got {tuple(mask.shape)}.")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(
                "A mask holds only 0 (missing) and 1 (observed).",
                hint="Of a picture of grey levels take mask > 127.",
            )
        empty = (mask.sum((1, 2, 3)) == 0).nonzero().flatten().tolist()
        if empty:
            raise InputError(
                f"The mask observes no pixel at all (image {empty[0]} of the batch).",
                hint="A mask is 1 (white) where a pixel is observed and 0 (black) where it is missing.",
            )
        super().__init__((channels, mask.shape[2], mask.shape[3]))
        self.register_buffer("mask", mask)

    @classmethod
    def random(
        cls, image_shape: tuple[int, int, int], fraction: float, seed: int, image_ids: Sequence[str]
    ) -> Self:
        """Observe a random ``fraction`` of the pixels, another set for each image id.

        Raises:
            ConfigurationError: the fraction is not in (0, 1] or so small that no pixel is left.
        """
        channels, height, width = image_shape
        count = round(fraction * height * width)
        if not 0 < fraction <= 1 or count == 0:
            raise ConfigurationError(
                f"fraction = {fraction} of {height} x {width} pixels cannot be observed.",
                hint="Give a number above 0 and up to 1, for example 0.1 for 10 %.",
            )
        masks = torch.zeros(len(image_ids), height * width)
        for mask, image_id in zip(masks, image_ids, strict=True):
            order = torch.randperm(height * width, generator=seeding.stream(seed, image_id, "mask"))
            mask[order[:count]] = 1
        return cls(masks.view(-1, 1, height, width), channels)

    @classmethod
    def box(cls, image_shape: tuple[int, int, int], box: tuple[int, int, int, int]) -> Self:
        """Miss one rectangle.

        Args:
            image_shape: shape of the images.
            box: ``(left, top, right, bottom)`` of the missing pixels; right and bottom exclusive.

        Raises:
            ConfigurationError: the box does not lie within the image.
        """
        channels, height, width = image_shape
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ConfigurationError(
                f"box = {list(box)} does not lie within an image {width} pixels wide and {height} high.",
                hint="Give [left, top, right, bottom] in pixels, with left < right and top < bottom.",
            )
        mask = torch.ones(height, width)
        mask[top:bottom, left:right] = 0
        return cls(mask, channels)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """The image's shape: missing pixels are zeros."""
        return self.image_shape

    @property
    def pixelwise(self) -> bool:
        """Pixels are kept or not, each by itself."""
        return True

    def measure(self, images: Tensor) -> Tensor:
        """Zero the missing pixels."""
        return images * self.mask

    def hide(self, measurements: Tensor) -> Tensor:
        """Zero the missing pixels of measurements with any number of channels."""
        return measurements * self.mask

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Zero the missing pixels again: the mask is its own adjoint."""
        return measurements * self.mask

    def correction(self, residual: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Return A* (A A* + rho I)^-1 r; of hidden measurements, r is 0."""
        return residual * self.mask / (1 + rho)

    def picture(self, measurements: Tensor) -> Tensor | None:
        """Return the observed pixels with the missing ones transparent."""
        if self.image_shape[0] != 3:
            return None
        alpha = (self.mask * 2 - 1).expand(len(measurements), -1, -1, -1)
        return torch.cat([measurements.clamp(-1, 1), alpha], 1)

    def observed(self) -> Tensor:
        """Return the number of observed scalars (pixels times channels) of each image."""
        return self.mask.sum((1, 2, 3)) * self.image_shape[0]
