"""Where FFHQ's alignment puts the square around a face, and the face in that square.

The recipe is that of the data set (Karras, Laine, Aila 2019, arXiv 1812.04948, appendix A, after Karras et al.
2018, arXiv 1710.10196, appendix C). Points are ``(x, y)`` in pixels of the upright photo, with whole numbers at
the pixels' centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.prepare.warp import Array, warp

# Numbering of the 68 landmarks (Sagonas et al. 2013, iBUG 300-W), from 0.
EYES = (slice(36, 42), slice(42, 48))
MOUTH_CORNERS = (48, 54)
LEAST_SIDE = 8.0
MOST_SIDES = 3.0


@dataclass(frozen=True)
class Face:
    """What the alignment needs of a face.

    Args:
        eyes: ``(2, 2)``, the centres of the eyes in either order.
        mouth: ``(2,)``, the middle between the corners of the mouth.
    """

    eyes: Array
    mouth: Array

    @classmethod
    def from_landmarks(cls, points: Array) -> Face:
        """Return the face of 68 landmarks ``(68, 2)``."""
        left, right = MOUTH_CORNERS
        eyes = np.stack([points[eye].mean(0) for eye in EYES])
        return cls(eyes, (points[left] + points[right]) / 2)


def face_square(face: Face) -> Array:
    """Return the corners ``(4, 2)`` of the square: top left, bottom left, bottom right, top right.

    Raises:
        InputError: eyes and mouth lie on one line, so that no square is defined.
    """
    first, second = face.eyes
    middle = face.eyes.mean(0)
    to_mouth = face.mouth - middle
    to_eye = second - first
    turn = to_eye[0] * to_mouth[1] - to_eye[1] * to_mouth[0]
    if turn < 0:  # the mouth is below eyes that go from left to right, however the photo is held
        to_eye = -to_eye
    if abs(turn) <= 1e-6 * np.linalg.norm(to_eye) * np.linalg.norm(to_mouth):
        raise InputError(
            f"Eyes at {_shown(first)} and {_shown(second)} with a mouth at {_shown(face.mouth)} make no "
            "face: the points coincide or lie on one line.",
            hint="Give the centres of the eyes and of the mouth as x, y in pixels.",
        )
    across = to_eye - _quarter_turn(to_mouth)
    across /= np.linalg.norm(across)
    across *= max(2.0 * np.linalg.norm(to_eye), 1.8 * np.linalg.norm(to_mouth))
    down = _quarter_turn(across)
    centre = middle + 0.1 * to_mouth
    return np.stack(
        [
            centre - across - down,
            centre - across + down,
            centre + across + down,
            centre + across - down,
        ]
    )


def middle_square(height: int, width: int) -> Array:
    """Return the corners ``(4, 2)`` of the largest square in the middle of a photo, at whole pixels."""
    length = min(height, width)
    left, top = (width - length) // 2 - 0.5, (height - length) // 2 - 0.5
    right, bottom = left + length, top + length
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]])


def _quarter_turn(vector: Array) -> Array:
    """Turn a vector from right to down, the way in which y grows."""
    return np.array([-vector[1], vector[0]])


def side(square: Array) -> float:
    """Return the side of a square in pixels of the photo."""
    return float(np.linalg.norm(square[3] - square[0]))


def check_square(square: Array, height: int, width: int) -> None:
    """Make sure that a face can be cut from a photo.

    Raises:
        InputError: its square is a few pixels small, has its centre outside, or is far larger than the photo.
    """
    x, y = square.mean(0)
    length = side(square)
    photo = f"the photo, which is {width} pixels wide and {height} high"
    hint = "Give the centres of the eyes and of the mouth as x, y in pixels of the upright photo."
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise InputError(f"The face at {_shown(square.mean(0))} lies outside {photo}.", hint=hint)
    if length > MOST_SIDES * max(height, width):
        raise InputError(
            f"The square around the face would be {length:.0f} pixels wide, far more than {photo}.",
            hint=hint,
        )
    if length < LEAST_SIDE:
        raise InputError(
            f"The square around the face is {length:.1f} pixels wide; at least {LEAST_SIDE:.0f} are needed."
        )


def square_to_photo(square: Array, size: int) -> Array:
    """Return the matrix ``(2, 3)`` from pixels of the aligned image to pixels of the photo.

    The corners of the square are the outer corners of the aligned image's corner pixels.
    """
    across, down = (square[3] - square[0]) / size, (square[1] - square[0]) / size
    return np.column_stack([across, down, square[0] + (across + down) / 2])


def align(photo: Tensor, square: Array, size: int) -> Tensor:
    """Cut the square out of a photo.

    Args:
        photo: ``(C, H, W)`` float; mirrored where the square leaves it.
        square: its corners, from :func:`face_square`.
        size: height and width of the result.

    Returns:
        ``(C, size, size)``.
    """
    return warp(photo, square_to_photo(square, size), size, size)


def _shown(point: Array) -> str:
    return f"({point[0]:.1f}, {point[1]:.1f})"
