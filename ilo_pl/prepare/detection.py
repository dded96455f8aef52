"""Where faces are in a photo, roughly: a detector of faces, run on the photo at several sizes.

Written from the paper (BlazeFace, Bazarevsky et al. 2019, arXiv 1907.05047). The network knows faces of some twenty to
130 pixels and takes pictures of any size, so that halving a photo again and again is all that large faces need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.prepare.networks import Detector
from ilo_pl.prepare.warp import Array

# A larger photo is searched at this size: twice the work for each doubling would find only tiny faces more.
SEARCHED = 2048
# A photo is halved until it is no longer than this: a face that is larger than the photo is found, too.
COARSEST = 128
# What the detector was trained on; smaller pictures are continued in grey.
WINDOW = 192
CELL = 4
# Logit from which on a cell is taken for a face: low, for the mesh turns down what is none.
PROPOSED = -1.0
# Boxes that overlap by more are of one face.
SAME_FACE = 0.3


class Box(NamedTuple):
    """A face as the detector sees it, in pixels of the photo.

    Args:
        centre: ``(2,)``, the middle of the box from the forehead to the chin.
        size: the longer side of the box.
        eyes: ``(2, 2)``, the face's right eye, which is left in an upright photo, and its left eye.
    """

    centre: Array
    size: float
    eyes: Array


def find_boxes(detector: Detector, photo: Tensor) -> list[Box]:
    """Return the faces of a photo ``(3, H, W)`` in [-1, 1], the surest first."""
    rows = np.concatenate([_look(detector, *level) for level in _levels(photo)])
    boxes = []
    for row in _blended(rows):
        centre, size, right, left = row[1:9].reshape(4, 2)
        boxes.append(Box(centre, float(size.max()), np.stack([right, left])))
    return boxes


def _levels(photo: Tensor) -> Iterator[tuple[Tensor, Array]]:
    """Yield the photo at falling sizes ``(1, 3, h, w)``, with how much wider and higher it is itself."""
    whole = np.array(photo.shape[:0:-1])
    level = min(1.0, SEARCHED / whole.max())
    small = photo[None]
    while True:
        width, height = (max(1, round(side * level)) for side in whole.tolist())
        if level < 1:
            small = F.interpolate(small, (height, width), mode="bicubic", antialias=True)
        yield small, whole / (width, height)
        if max(width, height) <= COARSEST:
            return
        level /= 2


def _look(detector: Detector, picture: Tensor, scale: Array) -> Array:
    """Return what is proposed in a picture: rows of logit, centre, size and six points, in pixels of the photo."""
    rest = [
        max(WINDOW, -(-n // detector.multiple) * detector.multiple) - n for n in picture.shape[2:]
    ]
    found = detector(F.pad(picture, (0, rest[1], 0, rest[0])))
    logits, values = (t[0].double().numpy() for t in found)
    # A size that is none would be no box.
    rows, columns = np.nonzero((logits > PROPOSED) & (values[2:4].min(0) > 0))
    pairs = values[:, rows, columns].T.reshape(len(rows), len(values) // 2, 2)
    is_place = np.arange(pairs.shape[1]) != 1  # the second pair is a size
    # Measured from the cells' middles, with 0 at the picture's edge; ours is at the first pixel's middle.
    cells = (np.stack([columns, rows], 1) + 0.5) * CELL
    pairs[:, is_place] += cells[:, None]
    pairs *= scale
    pairs[:, is_place] -= 0.5
    return np.column_stack([logits[rows, columns], pairs.reshape(len(rows), len(values))])


def _blended(rows: Array) -> Iterator[Array]:
    """Average the rows of each face by their scores: steadier than its best row (section 4.2 of the paper)."""
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    while len(rows):
        same = _overlaps(rows[0], rows) > SAME_FACE
        yield np.average(rows[same], 0, weights=1 / (1 + np.exp(-rows[same, 0])))
        rows = rows[~same]


def _overlaps(row: Array, rows: Array) -> Array:
    """Return the intersections over unions of a box with boxes; of a box with itself 1."""
    reach, reaches = row[3:5] / 2, rows[:, 3:5] / 2
    first = np.maximum(row[1:3] - reach, rows[:, 1:3] - reaches)
    last = np.minimum(row[1:3] + reach, rows[:, 1:3] + reaches)
    common = np.clip(last - first, 0, None).prod(1)
    overlaps: Array = common / (row[3:5].prod() + rows[:, 3:5].prod(1) - common)
    return overlaps
