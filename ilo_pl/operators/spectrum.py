"""Spectra of fixed kernels, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Spectrum:
    """Keeps what a transform makes of a buffer, for as long as the buffer stays what it is.

    A buffer that was moved, cast or exchanged is another tensor, and one that was written into has
    another version: either is transformed anew.

    Args:
        transform: the Fourier transform of the buffer.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self._transform = transform
        self._kept: tuple[Tensor, int, Tensor] | None = None

    def __call__(self, buffer: Tensor) -> Tensor:
        """Return the spectrum of a buffer."""
        version = -1 if buffer.is_inference() else buffer._version
        if self._kept is None or self._kept[0] is not buffer or self._kept[1] != version:
            # Made in inference mode it could not be used where gradients are taken.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = buffer, version, self._transform(buffer)
        return self._kept[2]
