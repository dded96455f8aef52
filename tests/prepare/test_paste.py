"""What comes back into the photo, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from ilo_pl.io.images import to_bytes
from ilo_pl.prepare.alignment import align, square_to_photo
from ilo_pl.prepare.paste import edge_weights, hole_weights, paste
from ilo_pl.prepare.warp import Array

INSIDE = np.array([[30.3, 20.4], [20.3, 90.4], [90.3, 100.4], [100.3, 30.4]])
OVER_THE_EDGE = INSIDE - np.array([45, 38])


def photo(height: int = 130, width: int = 120) -> Tensor:
    noise = np.random.default_rng(1).normal(size=(3, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    return torch.from_numpy((smooth / np.abs(smooth).max() * 120 + 128).astype(np.uint8))


def coordinates(square: Array, height: int, width: int) -> tuple[Array, Array]:
    """Coordinates of the photo's pixels in the unit square, by solving for them."""
    y, x = np.mgrid[:height, :width].astype(float)
    axes = np.column_stack([square[3] - square[0], square[1] - square[0]])
    offset = np.stack([x - square[0, 0], y - square[0, 1]]).reshape(2, -1)
    u, v = np.linalg.solve(axes, offset).reshape(2, height, width)
    return u, v


@pytest.mark.parametrize("square", [INSIDE, OVER_THE_EDGE])
@pytest.mark.parametrize("size", [40, 64, 400])
@pytest.mark.parametrize("feather", [0.0, 0.2])
def test_an_untouched_square_leaves_the_photo(square: Array, size: int, feather: float) -> None:
    before = photo()
    face = align(before.float() / 127.5 - 1, square, size)
    after = paste(before, face, square, feather)
    assert after.dtype == torch.uint8
    difference = (after.int() - before.int()).abs()
    u, v = coordinates(square, 130, 120)
    outside = torch.from_numpy((u <= 0) | (u >= 1) | (v <= 0) | (v >= 1))
    assert difference[:, outside].max() == 0
    assert difference[:, ~outside].float().mean() < 1.5
    # A hard edge shows what mirroring the square's own border gets wrong.
    assert difference.max() <= (30 if feather == 0 else 12)


def test_another_square_appears_at_its_place_with_a_soft_edge() -> None:
    before, feather = photo(), 0.1
    after = paste(before, torch.full((3, 64, 64), 0.5), INSIDE, feather).double()
    u, v = coordinates(INSIDE, 130, 120)
    t = np.clip(np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) / feather, 0, 1)
    weight = torch.from_numpy(3 * t**2 - 2 * t**3)
    expected = (1 - weight) * before + weight * (1.5 * 127.5)
    assert (after - expected).abs().max() < 0.51
    assert (weight == 1).any()


def test_the_pasted_square_is_scipys_warp() -> None:
    size = 64
    restored = photo(size, size).double() / 127.5 - 1
    after = paste(torch.zeros(3, 130, 120, dtype=torch.uint8), restored.float(), INSIDE, 0.0)
    matrix = np.linalg.inv(np.vstack([square_to_photo(INSIDE, size), [0, 0, 1]]))
    # scipy orders coordinates as rows, columns.
    linear, offset = matrix[:2, :2][::-1, ::-1], matrix[:2, 2][::-1]
    expected = ndimage.affine_transform(
        restored[0].numpy(), linear, offset, output_shape=(130, 120), order=3, mode="mirror"
    )
    u, v = coordinates(INSIDE, 130, 120)
    inside = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) > 0.01
    got = after[0].numpy()[inside]
    assert np.abs(got - (expected[inside] + 1) * 127.5).max() < 3


def test_a_mask_pastes_its_hole_and_nothing_far_from_it() -> None:
    before = photo()
    size, feather = 70, 0.1
    observed = torch.ones(size, size, dtype=torch.bool)
    observed[30:40, 20:50] = False
    after = paste(before, torch.full((3, size, size), 1.0), INSIDE, feather, observed)
    u, v = coordinates(INSIDE, 130, 120)
    distance = np.maximum(
        np.maximum(20 / size - u, u - 50 / size), np.maximum(30 / size - v, v - 40 / size)
    )
    hole, far = torch.from_numpy(distance < -0.02), torch.from_numpy(distance > feather + 0.03)
    assert hole.any()
    assert (after[:, hole] == 255).all()
    assert torch.equal(after[:, far], before[:, far])


def test_weights_in_closed_form() -> None:
    x = torch.tensor([-0.1, 0.0, 0.05, 0.1, 0.5, 0.95, 1.0], dtype=torch.float64)
    expected = torch.tensor([0, 0, 0.5, 1, 1, 0.5, 0], dtype=torch.float64)
    half = torch.full_like(x, 0.5)
    assert torch.allclose(edge_weights(x, half, 0.1), expected)
    assert torch.allclose(edge_weights(half, x, 0.1), expected)
    assert torch.equal(edge_weights(x, half, 0.0), (expected > 0).double())
    observed = torch.ones(21, 21, dtype=torch.bool)
    observed[10, 10] = False
    weights = hole_weights(observed, 4 / 21)
    # Reach 2: the dilated pixel is 5 wide, its average over 5 a tent.
    tent = torch.tensor([0.2, 0.4, 0.6, 0.8, 1, 0.8, 0.6, 0.4, 0.2])
    assert torch.allclose(weights[6:15, 6:15], tent[:, None] * tent, atol=1e-6)
    assert float(weights.sum()) == pytest.approx(25, abs=1e-4)
    observed[:] = False
    assert torch.allclose(hole_weights(observed, 0.2), torch.ones(21, 21))


def test_a_square_beside_the_photo_changes_nothing() -> None:
    before = photo()
    for shift in ([500, 0], [-500, 0], [0, -500]):
        assert torch.equal(paste(before, torch.ones(3, 9, 9), INSIDE + shift, 0.1), before)


def test_bytes_of_the_square_itself_come_back() -> None:
    """A square whose corners are those of pixels needs no interpolation."""
    before = photo()
    grid = np.array([[9.5, 19.5], [9.5, 59.5], [49.5, 59.5], [49.5, 19.5]])
    face = align(before.float() / 127.5 - 1, grid, 40)
    assert torch.equal(to_bytes(face), before[:, 20:60, 10:50])
