"""The faces of a photo by MediaPipe's networks: a detector, then a mesh of points on upright squares.

Written from the paper (face mesh, Kartynnik et al. 2019, arXiv 1907.06724). Points are ``(x, y)`` in pixels of the
photo, with whole numbers at the pixels' centres.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.prepare.alignment import Face, align, square_to_photo
from ilo_pl.prepare.detection import Box, find_boxes
from ilo_pl.prepare.networks import FaceNetworks, Mesh
from ilo_pl.prepare.warp import Array
from ilo_pl.weights.load import load_weights

NAME = "mediapipe-faces"
# The square that the mesh looks at: a face with a quarter of its size on each side.
MARGIN = 1.5
# Logits of the mesh from which on there is a face: at a first look, and in the end.
LIKELY, ACCEPTED = 0.0, 5.0
# Faces whose middles are nearer than this, in sizes of the larger, are one.
SAME_FACE = 0.3
# Numbers of the mesh's points: corners of the eyes and of the mouth, those of a mirrored face in its places.
CORNERS = (33, 133, 362, 263, 61, 291)
MIRRORED = (263, 362, 133, 33, 291, 61)
# The mesh's corners of the mouth lie nearer to the eyes than FFHQ's, by 2 % of the distance on generated faces.
MOUTH_FACTOR = 1.02


class Look(NamedTuple):
    """What the mesh saw.

    Args:
        logit: of a face being there.
        corners: ``(6, 2)``, as in ``CORNERS``.
        box: the face, from the points themselves.
    """

    logit: float
    corners: Array
    box: Box


def load_networks() -> FaceNetworks:
    """Return the networks that the package ships.

    Raises:
        WeightsError: their file is missing or another one.
    """
    networks = FaceNetworks().eval().requires_grad_(False)
    networks.load_state_dict(load_weights(NAME))
    # A third faster on a CPU.
    return networks.to(memory_format=torch.channels_last)


def mediapipe_finder() -> Callable[[Tensor], list[Face]]:
    """Return what finds the faces of a photo ``(3, H, W)``, uint8, the surest first.

    Raises:
        WeightsError: the networks' file is missing or another one.
    """
    networks = load_networks()

    def find(photo: Tensor) -> list[Face]:
        image = photo.float().div_(GREY_LEVELS).sub_(1)
        looks: list[Look] = []
        for box in find_boxes(networks.detector, image):
            look = _look(networks.mesh, image, box)
            if look.logit < LIKELY:
                continue
            # Its own points place the square better than the detector's.
            look = _look(networks.mesh, image, look.box)
            if look.logit >= ACCEPTED and not any(_same(look.box, other.box) for other in looks):
                looks.append(look)
        return [_face(look.corners) for look in looks]

    return find


def _eyes(corners: Array) -> Array:
    """Return the middles of the eyes ``(2, 2)``, of their corners."""
    eyes: Array = corners[:4].reshape(2, 2, 2).mean(1)
    return eyes


def _face(corners: Array) -> Face:
    eyes = _eyes(corners)
    middle = eyes.mean(0)
    return Face(eyes, middle + MOUTH_FACTOR * (corners[4:].mean(0) - middle))


def _look(mesh: Mesh, image: Tensor, box: Box) -> Look:
    """Look at a face through an upright square and at its mirror image: what errs to one side cancels."""
    square = _square(box)
    crop = align(image, square, mesh.size)
    found, logits = mesh(torch.stack([crop, crop.flip(2)]))
    seen, mirrored = found[..., :2].double().numpy()
    mirrored[:, 0] = mesh.size - 1 - mirrored[:, 0]
    corners = (seen[list(CORNERS)] + mirrored[list(MIRRORED)]) / 2
    matrix = square_to_photo(square, mesh.size)
    points, corners = (p @ matrix[:, :2].T + matrix[:, 2] for p in (seen, corners))
    return Look(float(logits.mean()), corners, _box(points, corners))


def _box(points: Array, corners: Array) -> Box:
    """Return the box around points, upright as the face is."""
    eyes = _eyes(corners)
    across = (eyes[1] - eyes[0]) / np.linalg.norm(eyes[1] - eyes[0])
    axes = np.stack([across, [-across[1], across[0]]])
    inside = points @ axes.T
    first, last = inside.min(0), inside.max(0)
    return Box((first + last) / 2 @ axes, float((last - first).max()), eyes)


def _square(box: Box) -> Array:
    """Return the corners of the mesh's square: top left, bottom left, bottom right, top right."""
    across = box.eyes[1] - box.eyes[0]
    across *= MARGIN * box.size / 2 / np.linalg.norm(across)
    down = np.array([-across[1], across[0]])
    corners = np.stack([-across - down, -across + down, across + down, across - down])
    square: Array = box.centre + corners
    return square


def _same(one: Box, other: Box) -> bool:
    apart = np.linalg.norm(one.centre - other.centre)
    return bool(apart < SAME_FACE * max(one.size, other.size))
