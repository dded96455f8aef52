"""The projection against Duchi et al.'s sort in float64, and against its optimality conditions."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ilo_pl.inversion import l1_ball
from ilo_pl.inversion.l1_ball import project_joint_l1_ball, project_l1_ball


def duchi(point: np.ndarray, radius: float) -> np.ndarray:
    """Figure 1 of Duchi et al. 2008, in float64, for one vector around the origin."""
    if np.abs(point).sum() <= radius:
        return point
    mu = np.sort(np.abs(point))[::-1]
    j = np.arange(1, len(mu) + 1)
    thetas = (np.cumsum(mu) - radius) / j
    positive = np.nonzero(mu - thetas > 0)[0]  # empty when the radius is lost in rounding
    theta = thetas[positive.max()] if len(positive) else mu[0]
    return np.sign(point) * np.maximum(np.abs(point) - theta, 0)


cases = st.tuples(
    st.integers(1, 5),
    st.integers(1, 300),
    st.sampled_from([1e-3, 1.0, 1e3]),
    st.floats(0, 2),
    st.integers(0, 2**31),
    st.booleans(),
)


def draw(batch: int, size: int, scale: float, seed: int, ties: bool) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(batch, size, generator=rng, dtype=torch.float64) * scale
    if ties:  # equal magnitudes are where thresholds go wrong
        points = (points / scale).round() * scale
    return points, torch.randn(batch, size, generator=rng, dtype=torch.float64) * scale


@pytest.mark.parametrize("asks", [True, False])
@given(cases)
@settings(deadline=None, max_examples=200)
def test_equals_the_sort_based_projection(
    asks: bool, case: tuple[int, int, float, float, int, bool]
) -> None:
    """Also with the fixed number of passes of devices that are not asked."""
    batch, size, scale, share, seed, ties = case
    points, centres = draw(batch, size, scale, seed, ties)
    radius = share * scale * size * 0.8  # from a point up to beyond the average norm
    expected = [
        c + duchi(p - c, radius) for p, c in zip(points.numpy(), centres.numpy(), strict=True)
    ]
    with patch.object(l1_ball, "asking_is_free", lambda tensor: asks):
        ours = project_l1_ball(points, centres, radius)
    torch.testing.assert_close(
        ours, torch.from_numpy(np.stack(expected)), rtol=1e-10, atol=1e-10 * scale
    )


@given(cases)
@settings(deadline=None, max_examples=100)
def test_float32_is_feasible_to_rounding_and_idempotent_inside(
    case: tuple[int, int, float, float, int, bool],
) -> None:
    batch, size, scale, share, seed, ties = case
    points, centres = (t.float() for t in draw(batch, size, scale, seed, ties))
    radius = share * scale * size * 0.8
    ours = project_l1_ball(points, centres, radius)
    norm = (ours - centres).double().abs().sum(1)
    # Half an ulp of each coordinate is what adding the centre back can cost.
    rounding = (ours.abs() + centres.abs()).double().sum(1) * torch.finfo(torch.float32).eps
    assert bool((norm <= radius * (1 + 1e-6) + rounding).all())
    inside = (points - centres).double().abs().sum(1) <= radius
    assert torch.equal(ours[inside], points[inside])


def test_a_batch_is_projected_image_by_image() -> None:
    points, centres = (t.float() for t in draw(4, 1000, 1.0, 3, False))
    together = project_l1_ball(points, centres, 50.0)
    apart = torch.cat(
        [project_l1_ball(points[i : i + 1], centres[i : i + 1], 50.0) for i in range(4)]
    )
    assert torch.equal(together, apart)


def test_joint_ball_is_the_ball_of_the_joined_vector() -> None:
    points, centres = draw(3, 60, 1.0, 5, False)
    ours = project_joint_l1_ball(
        [points[:, :24].view(3, 2, 3, 4), points[:, 24:]],
        [centres[:, :24].view(3, 2, 3, 4), centres[:, 24:]],
        7.0,
    )
    joined = torch.cat([t.flatten(1) for t in ours], 1)
    torch.testing.assert_close(joined, project_l1_ball(points, centres, 7.0), rtol=0, atol=1e-14)


def test_a_large_vector_in_float32_keeps_to_its_radius() -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(1, 8_000_000, generator=rng)
    centres = torch.zeros_like(points)
    ours = project_l1_ball(points, centres, 80_000.0)
    assert abs(float(ours.double().abs().sum()) - 80_000.0) < 0.1


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["normal", "cauchy", "equal", "steps", "few"])
def test_long_rows_equal_the_sort_based_projection(kind: str, share: float) -> None:
    """Rows that are long enough for a first guess, also where the guess is far off."""
    rng = torch.Generator().manual_seed(3)
    normal, other = torch.randn(2, 2, 50_001, generator=rng, dtype=torch.float64)
    points = {
        "normal": normal,
        "cauchy": normal / other,
        "equal": normal.sign(),
        "steps": normal.sign() * torch.arange(50_001).div(10_000, rounding_mode="floor"),
        # What the sample of every 61st entry does not see.
        "few": torch.where(torch.arange(50_001) % 61 == 1, normal, 0.0),
    }[kind]
    radius = share * float(points.abs().sum(1).min())
    expected = np.stack([duchi(row, radius) for row in points.numpy()])
    ours = project_l1_ball(points.float(), torch.zeros(2, 50_001), radius)
    largest = float(points.abs().max())
    torch.testing.assert_close(
        ours.double(), torch.from_numpy(expected), rtol=1e-6, atol=1e-6 * largest
    )


ROWS = {
    "normal": lambda rng: torch.randn(2, 300_000, generator=rng),
    "laplace": lambda rng: torch.empty(2, 300_000).exponential_(generator=rng),
    "cauchy": lambda rng: torch.randn(2, 300_000, generator=rng).div_(torch.randn(2, 300_000, generator=rng)),
    "sparse": lambda rng: torch.rand(2, 300_000, generator=rng).where(torch.arange(300_000) < 50, 0.0),
    "geometric": lambda rng: 0.5 ** torch.arange(300_000).float().expand(2, -1),
    "equal": lambda rng: torch.ones(2, 300_000),
}  # fmt: skip


@pytest.mark.parametrize("share", [1e-3, 0.1, 0.9])
@pytest.mark.parametrize("name", ROWS)
def test_long_rows_are_projected_without_asking(name: str, share: float) -> None:
    """Longer than what is sorted: the passes behind the sort must end at the same point."""
    points = ROWS[name](torch.Generator().manual_seed(0))
    radius = share * float(points.abs().sum(1).min())
    expected = np.stack([duchi(p, radius) for p in points.double().numpy()])
    with patch.object(l1_ball, "asking_is_free", lambda tensor: False):
        ours = project_l1_ball(points, torch.zeros_like(points), radius)
        assert torch.equal(project_l1_ball(ours, points, 1e9), ours)  # inside: to the bit
        assert torch.equal(project_l1_ball(points, ours, 0.0), ours)
    assert float(ours.double().abs().sum(1).max()) <= radius * (1 + 1e-6)
    error = np.abs(ours.double().numpy() - expected).max()
    assert error <= 2e-6 * float(points.abs().max())
