"""What a sampler measures distances in, against dense matrices; and the directions it finds, against a Jacobian."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ilo_pl.inversion.metric import Metric, stiff_directions
from ilo_pl.inversion.samplers import SAMPLERS, ChainDraws
from ilo_pl.inversion.walking import Walking


def test_a_metric_is_the_matrix_that_it_says() -> None:
    """H = C^(1/2) (1 + V' diag(s) V) C^(1/2) of two images with three chains each, in double precision."""
    random = torch.Generator().manual_seed(0)
    curvature = 1 + torch.rand(2, 7, generator=random)
    curvature[0, 0] = 0.3  # counts as 1
    basis = torch.linalg.qr(torch.randn(2, 7, 3, generator=random)).Q.mT
    metric = Metric(curvature, basis, 100 * torch.rand(2, 3, generator=random))
    rows = torch.randn(6, 7, generator=random)
    for i in range(2):
        root = curvature[i].double().clamp(min=1).sqrt().diag()
        v = basis[i].double()
        h = root @ (torch.eye(7) + v.T @ metric.stiffness[i].double().diag() @ v) @ root
        own = slice(3 * i, 3 * i + 3)
        x = rows[own].double()
        assert torch.allclose(metric.times(rows)[own].double(), x @ torch.linalg.inv(h), atol=1e-5)
        assert torch.allclose(metric.squared(rows)[own], ((x @ h) * x).sum(1), rtol=1e-5)
        factor = metric.root(torch.eye(7).repeat(2, 1)[:14])[7 * i : 7 * i + 7].double()
        assert torch.allclose(factor.T @ factor, torch.linalg.inv(h), atol=1e-5)


def test_the_directions_are_eigenvectors_of_the_jacobian() -> None:
    """Of a map that bends: eigenvalues within 5 % of those of J' J from autograd, at each image's own point."""
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 12, generator=random) * torch.logspace(1.5, -1.5, 12)
    chains, images = 4, 2

    def measure(rows: Tensor) -> Tensor:
        return (rows + 0.1 * rows.square()) @ matrix.T

    at = torch.randn(images, 12, generator=random).repeat_interleave(chains, 0)
    probes = torch.randn(images, 6, 12, generator=random)
    jacobian = matrix * (1 + 0.2 * at[::chains, None])
    exact = torch.linalg.eigvalsh(jacobian.mT @ jacobian).flip(1)[:, :6]
    for average in (False, True):
        basis, stiffness = stiff_directions(measure, at, probes, average)
        assert torch.allclose(basis @ basis.mT, torch.eye(6).expand(2, -1, -1), atol=1e-5)
        found = stiffness.sort(1, descending=True).values
        assert torch.allclose(found[:, :4], exact[:, :4], rtol=0.05)
        pushed = (basis @ jacobian.mT).square().sum(2)
        assert torch.allclose(pushed[stiffness > 1], stiffness[stiffness > 1], rtol=0.05)


def test_a_narrow_gaussian_is_crossed_at_once_along_its_directions() -> None:
    """Deviations of 1 and 1/100, turned by 45 degrees: no diagonal tells them apart, so chains would creep."""
    matrix = torch.tensor([[100.0, 100.0], [0.0, 0.0]]) / math.sqrt(2)

    def measure(rows: Tensor) -> Tensor:
        return rows @ matrix.T

    def directions(at: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return stiff_directions(measure, at, torch.eye(2)[None], average=number > 0)

    def steps(**keys: object) -> Tensor:
        at, now = nn.Parameter(torch.zeros(20, 2)), []
        draws = ChainDraws(0, ["toy"], 20)
        sampler = SAMPLERS["hmc"](
            [at], lambda: now[-1], draws, images=1, walking=Walking(160, leaps=4), **keys
        )
        kept = []
        for _ in range(480):
            sampler.zero_grad()
            energy = (measure(at).square().sum(1) + at.square().sum(1)) / 2
            now.append(energy.detach().double())
            energy.sum().backward()
            sampler.step()
            kept.append(sampler.current()[0].clone())
        return torch.stack(kept[160::4], 1)

    along = torch.tensor([1.0, -1.0]) / math.sqrt(2)
    wide = steps(directions=directions) @ along
    assert abs(float(wide.var()) - 1) < 0.15
    narrow = steps() @ along
    lag = (wide[:, 1:] * wide[:, :-1]).mean() / wide.var()
    creeping = (narrow[:, 1:] * narrow[:, :-1]).mean() / narrow.var()
    assert float(lag) < 0.3
    assert float(creeping) > 0.9
