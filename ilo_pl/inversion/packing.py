"""All variables of an image as one row, so that what is done to each costs one kernel and not one for each tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def asking_is_free(tensor: Tensor) -> bool:
    """Return whether a value can be looked at without waiting for a device: on a CPU."""
    return tensor.device.type == "cpu"


def spread(per_image: Tensor, like: Tensor) -> Tensor:
    """Return values of shape ``(B,)`` so that they broadcast to a tensor ``(B, ...)``."""
    return per_image.view(-1, *[1] * (like.ndim - 1))


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """Return copies of tensors ``(B, ...)`` side by side, ``(B, N)``."""
    return torch.cat([tensor.flatten(1) for tensor in tensors], 1)


def unpacked(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return views of ``(B, N)`` of the shapes of the tensors that it was packed from."""
    parts = torch.split(rows, [tensor[0].numel() for tensor in like], 1)
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


@torch.no_grad()
def unpack(rows: Tensor, into: Sequence[Tensor]) -> None:
    """Write ``(B, N)`` back into the tensors that it was packed from."""
    torch._foreach_copy_(list(into), unpacked(rows, into))
