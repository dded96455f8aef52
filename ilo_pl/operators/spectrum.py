"""Spectra of fixed kernels and matrices, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ilo_pl.operators.copies import Version, version

Kept = TypeVar("Kept")


class Spectrum(Generic[Kept]):
    """Keeps what a transform makes of a buffer, for as long as the buffer stays what it is.

    A buffer that was moved, cast or exchanged is another tensor, and one that was written into has
    another version: either is transformed anew.

    Args:
        transform: the Fourier transform of the buffer, or another decomposition.
    """

    def __init__(self, transform: Callable[[Tensor], Kept]) -> None:
        self._transform = transform
        self._kept: tuple[Tensor, Version, Kept] | None = None

    def __call__(self, buffer: Tensor) -> Kept:
        """Return the spectrum of a buffer."""
        if self._kept is None or self._kept[0] is not buffer or self._kept[1] != version(buffer):
            # Made in inference mode it could not be used where gradients are taken.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = buffer, version(buffer), self._transform(buffer)
        return self._kept[2]

    def __getstate__(self) -> dict[str, object]:
        """Return what a copy is made of: the spectrum would be on the device of the original."""
        return {**self.__dict__, "_kept": None}


def gram(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of M M^T, found in float64 on the CPU, on the matrix' device."""
    double = matrix.detach().cpu().double()
    values, vectors = torch.linalg.eigh(double @ double.T)
    return values.clamp(min=0).to(matrix), vectors.to(matrix)
