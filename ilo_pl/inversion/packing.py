"""All variables of an image as one row, so that what is done to each costs one kernel and not one for each tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Entries that are added up in their own precision before double precision takes over.
BLOCK = 1024


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
    if not all(tensor.is_contiguous() for tensor in into):
        torch._foreach_copy_(list(into), unpacked(rows, into))
        return
    # One kernel on CUDA, where copies of parts of rows would be one for each tensor.
    parts = [tensor.flatten(1) for tensor in into]
    torch.split_with_sizes_copy(rows, [part.shape[1] for part in parts], 1, out=parts)


def row_sums(values: Tensor) -> Tensor:
    """Return the sums of the rows of ``(B, N)``, ``(B,)`` in the precision of :func:`wide`.

    Short blocks are added in the values' own precision, several times faster than all in double;
    their sums, in double, depend neither on the other rows nor on the number of threads.
    """
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = values[:, :whole].view(len(values), -1, BLOCK).sum(2)
    return torch.cat([blocks, values[:, whole:]], 1).sum(1, dtype=wide(values))


def wide(values: Tensor) -> torch.dtype:
    """Return double precision, or single on Apple's GPUs, which have no other."""
    return torch.float32 if values.device.type == "mps" else torch.float64
