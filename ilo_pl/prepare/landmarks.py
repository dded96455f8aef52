"""Where the faces of a photo are: found by networks or by dlib, or given by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.prepare.alignment import Face
from ilo_pl.prepare.detection import SEARCHED
from ilo_pl.prepare.keys import DetectorName
from ilo_pl.prepare.mediapipe import mediapipe_finder
from ilo_pl.prepare.warp import Array

# Finds the faces of a photo (3, H, W), uint8.
Finder = Callable[[Tensor], list[Face]]

PREDICTOR = "shape_predictor_68_face_landmarks.dat"


def load_finder(name: DetectorName = "mediapipe") -> Finder:
    """Return what finds faces.

    Args:
        name: ``mediapipe``, whose networks the package ships, or ``dlib``, which FFHQ's authors used.

    Raises:
        ConfigurationError: dlib is wanted and not installed.
        WeightsError: the networks' file is missing or another one.
    """
    return mediapipe_finder() if name == "mediapipe" else _dlib_finder()


def _dlib_finder() -> Finder:
    """Return dlib's face detector with the predictor of 68 landmarks.

    Raises:
        ConfigurationError: the packages of the extra ``align`` are not installed.
    """
    package = util.find_spec("face_recognition_models")
    if package is None or package.origin is None or util.find_spec("dlib") is None:
        raise ConfigurationError(
            "detector=dlib needs dlib and its predictor of landmarks, which are not installed.",
            hint="detector=mediapipe, the default, needs neither. Else run "
            'pip install "ilo_pl[align]" (the predictor excludes commercial use, see docs/photos.md).',
        )
    import dlib

    detector = dlib.get_frontal_face_detector()
    # The package itself cannot be imported without old versions of setuptools.
    predictor = dlib.shape_predictor(str(Path(package.origin).parent / "models" / PREDICTOR))

    def find(photo: Tensor) -> list[Face]:
        # dlib looks at strides, which NumPy leaves open along an axis of one pixel, but for a copy.
        pixels = photo.permute(1, 2, 0).numpy().copy()
        longer = max(pixels.shape[:2])
        scale = min(1.0, SEARCHED / longer)
        searched = pixels
        if scale < 1:
            searched = dlib.resize_image(pixels, scale)
        faces = []
        for box in detector(searched, 1):
            edges = (box.left(), box.top(), box.right(), box.bottom())
            whole = dlib.rectangle(*(round(edge / scale) for edge in edges))
            shape = predictor(pixels, whole)
            points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)
            faces.append(Face.from_landmarks(points))
        return faces

    return find


def given_face(eyes: tuple[float, ...], mouth: tuple[float, ...]) -> Face:
    """Return the face of eyes ``(x1, y1, x2, y2)`` and mouth ``(x, y)``."""
    return Face(np.array(eyes, dtype=np.float64).reshape(2, 2), np.array(mouth, dtype=np.float64))


def read_landmarks(path: Path, ids: Sequence[str]) -> Mapping[str, Face]:
    """Read faces given by hand, by the id of their photo.

    The file is JSON: a face, for a single photo, or ``{"photo": face, ...}`` with photos by their names without
    suffix. A face is a list of the 68 landmarks ``[x, y]``, or
    ``{"eyes": [x1, y1, x2, y2], "mouth": [x, y]}``.

    Args:
        path: the file.
        ids: the photos that need one.

    Raises:
        InputError: the file cannot be read, or something in it is no face.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The landmarks {path} cannot be read: {error}.") from error
    alone = isinstance(content, list) or (isinstance(content, dict) and "eyes" in content)
    if alone:
        if len(ids) != 1:
            raise InputError(
                f"{path} holds one face and there are {len(ids)} photos.",
                hint='Name the photos: {"photo1": face, "photo2": face}.',
            )
        return {ids[0]: _face(path, content)}
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no face.", hint=FORMAT)
    return {str(name): _face(path, face) for name, face in content.items()}


FORMAT = 'A face is a list of 68 landmarks [x, y], or {"eyes": [x1, y1, x2, y2], "mouth": [x, y]}.'


def _face(path: Path, content: Any) -> Face:
    if isinstance(content, dict) and set(content) == {"eyes", "mouth"}:
        eyes, mouth = _numbers(content["eyes"], (4,)), _numbers(content["mouth"], (2,))
        if eyes is not None and mouth is not None:
            return Face(eyes.reshape(2, 2), mouth)
    points = _numbers(content, (68, 2))
    if points is None:
        raise InputError(
            f"{path} holds something that is no face: {str(content)[:80]}", hint=FORMAT
        )
    return Face.from_landmarks(points)


def _numbers(content: Any, shape: tuple[int, ...]) -> Array | None:
    try:
        values = np.array(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return values if values.shape == shape and bool(np.isfinite(values).all()) else None
