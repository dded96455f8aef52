"""Several pictures made one: collages, whose seams a generator closes, and blends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import Mask
from ilo_pl.prepare.keys import Box, Direction


def strips(images: Sequence[Tensor], direction: Direction) -> Tensor:
    """Take a strip of each image: of two images the left half of the first and the right half of the second.

    Args:
        images: ``(C, H, W)`` each, of one size.
        direction: strips side by side (``columns``) or one above the other (``rows``).

    Returns:
        ``(C, H, W)``.
    """
    axis = 2 if direction == "columns" else 1
    length = images[0].shape[axis]
    edges = [round(i * length / len(images)) for i in range(len(images) + 1)]
    parts = [
        image.narrow(axis, start, end - start)
        for image, start, end in zip(images, edges, edges[1:], strict=False)
    ]
    return torch.cat(parts, axis)


def patches(images: Sequence[Tensor], boxes: Sequence[Box]) -> Tensor:
    """Paste a box of each further image into the first one, where it was.

    Args:
        images: ``(C, H, W)`` each, of one size.
        boxes: ``(left, top, right, bottom)``, one for each image but the first.

    Returns:
        ``(C, H, W)``.

    Raises:
        ConfigurationError: there is not one box for each, or one does not lie within the image.
    """
    if len(boxes) != len(images) - 1:
        raise ConfigurationError(
            f"There are {len(boxes)} boxes for {len(images)} images.",
            hint="Give one box for each image but the first, which is the ground.",
        )
    result = images[0].clone()
    height, width = result.shape[1:]
    for image, box in zip(images[1:], boxes, strict=True):
        Mask.box((1, height, width), box)
        left, top, right, bottom = box
        result[:, top:bottom, left:right] = image[:, top:bottom, left:right]
    return result


def blend(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Return ``(1 - weight) * first + weight * second``, both ``(C, H, W)``."""
    return torch.lerp(first, second, weight)
