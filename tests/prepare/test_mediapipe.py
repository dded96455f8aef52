"""Faces without dlib: the networks against LiteRT, and known faces found again wherever they lie."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ilo_pl.paper.demo import portrait
from ilo_pl.prepare.alignment import face_square, side, square_to_photo
from ilo_pl.prepare.detection import _blended, find_boxes
from ilo_pl.prepare.landmarks import Finder, load_finder
from ilo_pl.prepare.mediapipe import load_networks
from ilo_pl.prepare.networks import FaceNetworks
from ilo_pl.weights.load import load_weights
from tests.prepare.conftest import Prepare


@pytest.fixture(scope="module")
def networks() -> FaceNetworks:
    return load_networks()


@pytest.fixture(scope="module")
def find() -> Finder:
    return load_finder()


@pytest.fixture(scope="module")
def face() -> Image.Image:
    with Image.open(portrait()) as file:
        return file.convert("RGB")


def test_the_networks_compute_what_litert_does(networks: FaceNetworks, face: Image.Image) -> None:
    """Of ai-edge-litert 2.3.0, running the published files on every fifth pixel of the portrait."""
    pixels = np.asarray(face)[::5, ::5][:192, :192].copy()
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    logits, values = networks.detector(picture)
    corners = [logits[0, 0, 0], logits[0, 0, 47], logits[0, 47, 47], logits[0, 30, 26]]
    assert np.allclose(corners, [-8.8490, -8.9231, -9.1663, 0.8364], atol=2e-4)
    best = [-2.576, -2.021, 133.602, 133.596, -28.102, -24.024, 23.893, -23.051]
    best += [-1.730, 11.569, -2.415, 35.289, -54.002, -15.898, 48.820, -15.002]
    assert np.allclose(values[0, :, 30, 26], best, atol=2e-3)
    points, logit = networks.mesh(picture)
    # The mesh's weights were rounded to float16.
    assert logit.item() == pytest.approx(30.4258, abs=0.02)
    known = [[64.854, 97.795, 3.967], [140.407, 97.492, 4.400], [74.168, 140.809, 10.105]]
    known += [[131.918, 140.657, 10.494], [103.008, 130.112, -27.685], [103.764, 181.245, 12.015]]
    assert np.allclose(points[0, [33, 263, 61, 291, 1, 152]], known, atol=0.05)


def test_their_file_has_nothing_that_is_not_used() -> None:
    assert set(load_weights("mediapipe-faces")) == set(FaceNetworks().state_dict())


def square(x: float, y: float, length: float, degrees: float) -> np.ndarray:
    across = (
        length / 2 * np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    )
    down = np.array([-across[1], across[0]])
    corners = [-across - down, -across + down, across + down, across - down]
    return np.array([x, y]) + np.array(corners)


def put(canvas: Image.Image, face: Image.Image, where: np.ndarray) -> None:
    """Draw a face into a square with Pillow, whose whole numbers are at the pixels' edges."""
    small = face.resize((2 * math.ceil(side(where)),) * 2, Image.Resampling.LANCZOS)
    matrix = square_to_photo(where, small.width)
    matrix[:, 2] += 0.5 - matrix[:, :2].sum(1) / 2
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2].ravel()
    turned = small.convert("RGBA").transform(
        canvas.size, Image.Transform.AFFINE, tuple(inverse), Image.Resampling.BICUBIC
    )
    canvas.paste(turned, mask=turned.getchannel("A"))


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def furthest(found: np.ndarray, known: np.ndarray) -> float:
    """Return how far corners are off, in sides of the known square."""
    return float(np.linalg.norm(found - known, axis=1).max() / side(known))


@pytest.mark.parametrize(
    ("length", "degrees", "most"),
    [
        (40, 0, 0.06),
        (60, 45, 0.06),
        (110, -45, 0.02),
        (320, 30, 0.02),
        (500, 0, 0.02),
        (700, -20, 0.02),
    ],
)
def test_a_face_comes_back_small_large_and_turned(
    find: Finder, face: Image.Image, length: int, degrees: int, most: float
) -> None:
    """The portrait was aligned as FFHQ is. Its square's corners are four times as far off as the eyes are:

    of the smallest faces a pixel.
    """
    canvas = Image.new("RGB", (1000, 800), (140, 150, 130))
    known = square(480.3, 410.6, length, degrees)
    put(canvas, face, known)
    (found,) = find(pixels_of(canvas))
    assert furthest(face_square(found), known) < most


def test_a_face_that_fills_the_photo(find: Finder, face: Image.Image) -> None:
    (found,) = find(pixels_of(face))
    assert furthest(face_square(found), square(511.5, 511.5, 1024, 0)) < 0.02


def test_several_faces_of_a_large_photo_are_cut_and_put_back(
    prepare: Prepare, face: Image.Image, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    group = Image.new("RGB", (2400, 900), (120, 140, 150))
    known = [square(420, 450, 700, 12), square(1200, 300, 240, -35), square(2100, 600, 90, 5)]
    for where in known:
        put(group, face, where)
    group.save(photos / "group.png")
    Image.new("RGB", (300, 200), "white").save(photos / "white.png")
    Image.new("RGB", (1, 1)).save(photos / "dot.png")
    keys = [f"input={photos}", f"output={tmp_path}/out", "size=256"]
    status, text, error = prepare("align", *keys, "face=all")
    assert status == 3
    assert "3 faces from 1 photo" in text
    assert "not done: white.png: No face was found" in error
    assert "not done: dot.png: No face was found" in error
    for number, where in enumerate(known, 1):
        record = json.loads((tmp_path / f"out/group_face{number}.json").read_text())
        assert furthest(np.array(record["square"]), where) < 0.03
    keys = [f"input={tmp_path}/out", f"aligned={tmp_path}/out", f"photos={photos}"]
    assert prepare("paste", *keys, f"output={tmp_path}/pasted")[0] == 0
    with Image.open(tmp_path / "pasted/group.png") as pasted:
        away = np.asarray(pasted).astype(int) - np.asarray(group)
    assert np.abs(away).max() > 0
    assert np.abs(away).mean() < 1


def test_the_astronaut_lies_where_ffhq_s_tool_put_her(find: Finder) -> None:
    data = pytest.importorskip("skimage.data")
    known = np.array([[142.3, 15.5], [133.7, 189.0], [307.1, 197.6], [315.7, 24.1]])
    (found,) = find(pixels_of(Image.fromarray(data.astronaut())))
    assert furthest(face_square(found), known) < 0.02
    for name in ("coffee", "chelsea", "coins", "rocket", "brick"):
        picture = Image.fromarray(getattr(data, name)()).convert("RGB")
        assert find(pixels_of(picture)) == []


def test_pictures_of_one_pixel(networks: FaceNetworks) -> None:
    for size in ((1, 1), (1, 4000), (4000, 1), (2, 2)):
        assert find_boxes(networks.detector, torch.zeros(3, *size)) == []


def test_boxes_of_one_face_are_averaged_by_their_scores() -> None:
    rows = np.zeros((3, 17))
    rows[:, :5] = [[0, 10, 10, 8, 8], [math.log(3), 12, 10, 8, 10], [0, 50, 10, 8, 8]]
    first, second = _blended(rows)
    # Scores 1/2 and 3/4.
    assert np.allclose(first[1:5], [11.2, 10, 8, 9.2])
    assert np.allclose(second, rows[2])
