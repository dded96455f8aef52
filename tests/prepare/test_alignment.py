"""The square around a face and the face in it, against closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ilo_pl.errors import InputError
from ilo_pl.prepare.alignment import Face, align, check_square, face_square, side, square_to_photo
from ilo_pl.prepare.warp import warp

# The astronaut of scikit-image: centres of the eyes and of the mouth, and the square that FFHQ's tool makes of
# dlib's landmarks there.
EYES = np.array([[203.1667, 101.5], [246.5, 104.1667]])
MOUTH = np.array([223.5, 140.0])
SQUARE = np.array([[142.3, 15.5], [133.7, 189.0], [307.1, 197.6], [315.7, 24.1]])


def face(*points: float) -> Face:
    return Face(np.array(points[:4], float).reshape(2, 2), np.array(points[4:], float))


def test_the_known_square_of_a_known_face() -> None:
    square = face_square(Face(EYES, MOUTH))
    assert np.abs(square - SQUARE).max() < 0.1
    assert side(square) == pytest.approx(173.66, abs=0.01)
    # Whichever eye is named first.
    assert np.allclose(face_square(Face(EYES[::-1], MOUTH)), square)


def test_landmarks_are_averaged_as_ffhq_numbers_them() -> None:
    points = np.full((68, 2), np.nan)
    points[36:42] = EYES[0] + [[-3, 0], [-1, 2], [1, 2], [3, 0], [1, -2], [-1, -2]]
    points[42:48] = EYES[1] + [[-3, 0], [-1, 2], [1, 2], [3, 0], [1, -2], [-1, -2]]
    points[48], points[54] = MOUTH - 9, MOUTH + 9
    found = Face.from_landmarks(points)
    assert np.allclose(found.eyes, EYES)
    assert np.allclose(found.mouth, MOUTH)


@given(st.floats(-math.pi, math.pi), st.floats(0.2, 5), st.floats(-100, 100), st.floats(-100, 100))
@settings(deadline=None, max_examples=50)
def test_the_square_moves_with_the_face(angle: float, scale: float, dx: float, dy: float) -> None:
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    shift = np.array([dx, dy])
    moved = face_square(Face(EYES @ turn.T + shift, turn @ MOUTH + shift))
    assert np.allclose(moved, face_square(Face(EYES, MOUTH)) @ turn.T + shift, atol=1e-6)


def test_a_frontal_face_in_closed_form() -> None:
    # Eyes 40 apart at height 100, mouth 50 below: the half side is 1.8 * 50, the centre 5 below the eyes.
    square = face_square(face(80, 100, 120, 100, 100, 150))
    assert np.allclose(square, [[10, 15], [10, 195], [190, 195], [190, 15]])
    # Eyes 60 apart, mouth 50 below: now twice the distance of the eyes decides.
    assert side(face_square(face(70, 100, 130, 100, 100, 150))) == pytest.approx(240)


@pytest.mark.parametrize("points", [(5, 5, 5, 5, 5, 5), (0, 0, 4, 0, 2, 0), (0, 0, 4, 4, 2, 2)])
def test_points_that_make_no_face(points: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="no face"):
        face_square(face(*points))


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ((80, 300, 120, 300, 100, 350), "outside the photo"),
        ((50, 100, 51, 100, 50.5, 101), "at least 8"),
        ((-400, 100, 600, 100, 100, 300), "far more"),
    ],
)
def test_squares_that_cannot_be_cut(points: tuple[float, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_square(face_square(face(*points)), height=200, width=220)


@given(st.integers(4, 40), st.floats(0, 6.28), st.floats(3, 60), st.data())
@settings(deadline=None, max_examples=40)
def test_a_linear_image_is_resampled_exactly(
    size: int, angle: float, half: float, data: st.DataObject
) -> None:
    """Where it grows or is halved; a kernel stretched by another factor is a hundredth of a pixel off at most."""
    height, width = 160, 170
    across = half * np.array([math.cos(angle), math.sin(angle)])
    down = np.array([-across[1], across[0]])
    centre = np.array([data.draw(st.floats(84, 86)), data.draw(st.floats(79, 81))])
    square = np.array(
        [
            centre - across - down,
            centre - across + down,
            centre + across + down,
            centre + across - down,
        ]
    )
    # The kernels' reach must stay off the border, which is mirrored and so no plane.
    assume(half * 1.42 + 4 * max(1, 2 * half / size) + 3 < 78)
    rows, columns = np.mgrid[:height, :width].astype(float)
    image = torch.from_numpy(np.stack([0.3 * columns - 0.2 * rows + 1, rows, columns * 0 + 7]))
    ticks = (np.arange(size) + 0.5) / size
    v, u = np.meshgrid(ticks, ticks, indexing="ij")
    x, y = (
        square[0, i] + u * (square[3, i] - square[0, i]) + v * (square[1, i] - square[0, i])
        for i in (0, 1)
    )
    got = align(image, square, size).numpy()
    scale = 2 * half / size
    tolerance = 1e-9 if scale <= 2 else 0.01 * scale
    assert np.abs(got - np.stack([0.3 * x - 0.2 * y + 1, y, x * 0 + 7])).max() < tolerance


def test_a_quadratic_image_too_where_it_grows() -> None:
    rows, columns = np.mgrid[:40, :40].astype(float)
    image = torch.from_numpy((columns**2 - 3 * rows * columns + 2 * rows**2)[None])
    matrix = np.array([[0.31, 0.12, 9.4], [-0.2, 0.4, 12.3]])
    got = warp(image, matrix, 25, 30)[0].numpy()
    y, x = np.mgrid[:25, :30]
    u, v = (m[0] * x + m[1] * y + m[2] for m in matrix)
    assert np.abs(got - (u**2 - 3 * u * v + 2 * v**2)).max() < 1e-9


def smooth(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(height, width))
    blurred = ndimage.gaussian_filter(noise, 4, mode="mirror")
    return blurred / np.abs(blurred).max()


@pytest.mark.parametrize("size", [16, 40, 64, 300])
def test_agrees_with_scipy_and_mirrors_the_border(size: int) -> None:
    """Splines of scipy for the grid, its mirrored border, and averages over each pixel when it shrinks."""
    image = smooth(90, 110)
    square = np.array([[-20.0, 10], [-8, 90], [72, 78], [60, -2]])
    matrix = square_to_photo(square, size)
    fine = 8 if size < 100 else 2  # sub-pixels of each output pixel and axis
    ticks = (np.arange(size * fine) + 0.5) / fine - 0.5
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    points = [m[0] * x + m[1] * y + m[2] for m in matrix[::-1]]
    expected = ndimage.map_coordinates(image, points, order=3, mode="mirror")
    expected = expected.reshape(size, fine, size, fine).mean((1, 3))
    got = align(torch.from_numpy(image)[None], square, size)[0].numpy()
    assert np.abs(got - expected).max() < 0.04
    assert np.abs(got - expected).mean() < 0.01


def test_shrinking_does_not_alias() -> None:
    """Stripes too fine for the result become their mean, at any angle."""
    columns = np.arange(400)
    image = torch.from_numpy(np.broadcast_to(np.where(columns % 2, 1.0, -1.0), (400, 400)).copy())
    for square in (
        np.array([[40.0, 40], [40, 360], [360, 360], [360, 40]]),
        np.array([[100.0, 60], [60, 300], [300, 340], [340, 100]]),
    ):
        assert align(image[None], square, 50).abs().max() < 0.03
