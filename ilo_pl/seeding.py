"""Random streams keyed by what they are for.

A draw depends on ``(seed, image id, purpose, index)`` and on nothing else: not on the batch an image
rides in, the number of processes, or what was drawn before. So nothing random needs to be saved in a
checkpoint. Streams are made on the CPU, so that all devices see the same numbers; only what is drawn at every step may
be drawn where it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")


def stream(
    seed: int, image_id: str, purpose: str, index: int = 0, device: torch.device = CPU
) -> torch.Generator:
    """Return the generator of the stream ``(seed, image_id, purpose, index)``; CUDA's counts, and waits for nothing."""
    key = "\x1f".join((str(seed), image_id, purpose, str(index))).encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest, "little") >> 1)
    return generator


def normal(
    shape: Sequence[int],
    seed: int,
    image_ids: Sequence[str],
    purpose: str,
    index: int = 0,
    device: torch.device = CPU,
) -> Tensor:
    """Draw standard normal numbers, one independent stream per image.

    Args:
        shape: shape of one image's draw, without the batch dimension.
        seed: the run's seed.
        image_ids: ids of the images of the batch, in order.
        purpose: what the numbers are for; different purposes are independent.
        index: step or slot, for purposes that draw more than once.
        device: where to draw, the CPU or a CUDA device, whose numbers are others.

    Returns:
        float32 tensor of shape ``(len(image_ids), *shape)``.
    """
    streams = (stream(seed, image_id, purpose, index, device) for image_id in image_ids)
    return torch.stack([torch.randn(tuple(shape), generator=s, device=device) for s in streams])


def uniform(
    shape: Sequence[int], seed: int, image_ids: Sequence[str], purpose: str, index: int = 0
) -> Tensor:
    """Draw uniform numbers in [0, 1), one independent stream per image; arguments as :func:`normal`."""
    return torch.stack(
        [torch.rand(tuple(shape), generator=stream(seed, i, purpose, index)) for i in image_ids]
    )
