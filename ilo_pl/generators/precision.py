"""What float32 means: the same numbers wherever they are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 as it is written: no autocast, no TF32, no algorithm that sums in a random order.

    CUDA's convolutions default to TF32, whose 10 bits of mantissa show in 8-bit pictures; what is saved and
    compared must not depend on such settings. They are the caller's again behind this.

    Args:
        device: where is computed.
    """
    switches = exact_switches() if device.type == "cuda" else []
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        with without_autocast(device):
            yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return what keeps tensors in their types inside an autocast region, on devices that have autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def exact_switches() -> list[tuple[Any, str, object]]:
    """Return torch's global switches that make CUDA compute in float32 alike every time: owner, name, value.

    Since 2.9 TF32 has switches of a new kind; who has used those cannot read the old ones any more.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    same: list[tuple[Any, str, object]] = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    if hasattr(cudnn, "conv"):
        return [
            *same,
            (matmul, "fp32_precision", "ieee"),
            (cudnn.conv, "fp32_precision", "ieee"),
        ]
    return [*same, (matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
