"""What a sampler measures distances in, for each image: a diagonal, or some directions of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from ilo_pl.inversion.packing import row_sums

# Variables are in units of their prior, whose curvature of 1 no direction goes below.
LEAST_CURVATURE = 1.0
# How far a difference of measurements looks, in units of the prior: over so little a generator is about linear.
REACH = 0.1


@dataclass(frozen=True)
class Metric:
    """M, the inverse of H = C^(1/2) (1 + V' diag(s) V) C^(1/2) of each image; methods take rows of its chains.

    Args:
        curvature: the diagonal of C, ``(B, D)``; below 1 it counts as 1.
        basis: V, orthonormal rows, ``(B, r, D)``.
        stiffness: s, not below 0, ``(B, r)``.
    """

    curvature: Tensor
    basis: Tensor
    stiffness: Tensor

    @classmethod
    def unit(cls, images: int, size: int, like: Tensor) -> Self:
        """Return the identity."""
        none = like.new_zeros(images, 0, size)
        return cls(like.new_ones(images, size), none, none[..., 0])

    def pack(self) -> dict[str, Tensor]:
        """Return what it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def unpack(cls, packed: Mapping[str, Tensor]) -> Self:
        """Undo :meth:`pack`, from a mapping that may hold more."""
        return cls(*(packed[field.name] for field in fields(cls)))

    def blend(self, squares: Tensor, weight: float) -> Self:
        """Return one whose diagonal is closer to mean squared gradients ``(B, D)``."""
        return type(self)(torch.lerp(self.curvature, squares, weight), self.basis, self.stiffness)

    def widths(self, count: int) -> Tensor:
        """Return 1 / C for chains, ``(N, D)``."""
        scale = self.curvature.clamp(min=LEAST_CURVATURE).reciprocal()
        return scale.repeat_interleave(count // len(scale), 0)

    def times(self, rows: Tensor) -> Tensor:
        """Return M times rows ``(N, D)``."""
        scale = self.widths(len(rows)).sqrt()
        return scale * self._along(scale * rows, -self.stiffness / (1 + self.stiffness))

    def root(self, rows: Tensor) -> Tensor:
        """Return a root of M times rows: of N(0, 1) numbers it makes N(0, M)."""
        return self.widths(len(rows)).sqrt() * self._along(rows, (1 + self.stiffness).rsqrt() - 1)

    def squared(self, rows: Tensor) -> Tensor:
        """Return x' H x of each row, ``(N,)`` in double precision."""
        scaled = rows / self.widths(len(rows)).sqrt()
        found = row_sums(scaled.square())
        parts = self._parts(scaled).square() * self.stiffness[:, None]
        return found + row_sums(parts.flatten(0, 1))

    def _parts(self, rows: Tensor) -> Tensor:
        return rows.view(len(self.basis), -1, rows.shape[1]) @ self.basis.mT

    def _along(self, rows: Tensor, factor: Tensor) -> Tensor:
        """Return (1 + V' diag(factor) V) times rows."""
        return rows + ((self._parts(rows) * factor[:, None]) @ self.basis).flatten(0, 1)


def stiff_directions(
    measure: Callable[[Tensor], Tensor], at: Tensor, probes: Tensor, average: bool
) -> tuple[Tensor, Tensor]:
    """Return the directions along which measurements change most, and how much: eigenvectors of J' J, J their Jacobian.

    One step of subspace iteration and Rayleigh-Ritz (Halko et al. 2011, arXiv 0909.4061); J by a difference, J' by
    backpropagation.

    Args:
        measure: from variables ``(N, D)`` to measurements in units of their noise.
        at: where the chains of each image are, ``(N, D)``; each takes a part of the directions.
        probes: normal numbers, ``(B, r, D)``, r at most D.
        average: take the mean of J' J over an image's chains in the second half, for as many times the work.

    Returns:
        Orthonormal rows ``(B, r, D)`` and eigenvalues ``(B, r)``, not below 0.
    """
    images, chains = len(probes), len(at) // len(probes)

    def curvature(moves: Tensor) -> Tensor:
        """Return J' J of each chain times a direction of its own, ``(B, C, D)`` both."""
        # A graph for each: compiled segments give up what they saved at their first backward.
        base = at.detach().clone().requires_grad_()
        with torch.enable_grad():
            here = measure(base)
        with torch.no_grad():
            change = (measure(base + REACH * moves.flatten(0, 1)) - here) / REACH
        back: Tensor = torch.autograd.grad(here, base, change)[0]
        return back.view_as(moves)

    def shared(rows: Tensor) -> Tensor:
        found = []
        for start in range(0, rows.shape[1], chains):
            some = rows[:, start : start + chains]
            # The last may be fewer; chains beyond them are moved nowhere.
            rest = some.new_zeros(images, chains - some.shape[1], some.shape[2])
            found.append(curvature(torch.cat([some, rest], 1))[:, : some.shape[1]])
        return torch.cat(found, 1)

    def mean(rows: Tensor) -> Tensor:
        every = (rows[:, i : i + 1].expand(-1, chains, -1) for i in range(rows.shape[1]))
        return torch.stack([curvature(each).mean(1) for each in every], 1)

    basis = _orthonormal(shared(_orthonormal(probes)))
    inner = (mean(basis) if average else shared(basis)) @ basis.mT
    values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
    return vectors.mT @ basis, values.clamp(min=0)


def _orthonormal(rows: Tensor) -> Tensor:
    columns: Tensor = torch.linalg.qr(rows.mT).Q
    return columns.mT
