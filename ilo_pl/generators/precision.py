"""What float32 means: the same numbers wherever they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

# One of torch's global switches: its owner, its name and a value.
Switch = tuple[Any, str, object]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 as it is written: no autocast, no TF32, no algorithm that sums in a random order.

    CUDA's convolutions default to TF32, whose 10 bits of mantissa show in 8-bit pictures; what is saved and
    compared must not depend on such settings. They are the caller's again behind this.

    Args:
        device: where is computed.
    """
    switches = exact_switches() if device.type == "cuda" else []
    with _set(switches), without_autocast(device):
        yield


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let CUDA's float32 convolutions and matrix products use TF32, or not, whatever torch's defaults are."""
    with _set(tf32_switches(allowed)):
        yield


@contextmanager
def _set(switches: Sequence[Switch]) -> Iterator[None]:
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return what keeps tensors in their types inside an autocast region, on devices that have autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_type(device: torch.device) -> torch.dtype | None:
    """Return the type of the autocast region that this is called in, ``None`` outside of one."""
    if not torch.amp.is_autocast_available(device.type):
        return None
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else None


def in_type(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return an autocast region of a type that :func:`autocast_type` returned."""
    return without_autocast(device) if dtype is None else torch.autocast(device.type, dtype)


def exact_switches() -> list[Switch]:
    """Return the switches that make CUDA compute in float32 alike every time."""
    cudnn = torch.backends.cudnn
    same: list[Switch] = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    return [*same, *tf32_switches(False)]


def tf32_switches(allowed: bool) -> list[Switch]:
    """Return the switches of TF32.

    Since torch 2.9 they are of a new kind; who has used those cannot read the old ones any more.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        word = "tf32" if allowed else "ieee"
        return [(matmul, "fp32_precision", word), (cudnn.conv, "fp32_precision", word)]
    return [(matmul, "allow_tf32", allowed), (cudnn, "allow_tf32", allowed)]
