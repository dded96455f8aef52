"""The pictures of an image that a page lays over each other, from their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ilo_pl.errors import InputError
from ilo_pl.evaluation.page import Picture, link
from ilo_pl.evaluation.thumbnails import Embedder, error_map, opened

INPUT, MEASUREMENTS, RESULT, REFERENCE = "input", "measurements", "result", "reference"
UNREADABLE = (OSError, SyntaxError, ValueError, InputError)  # Pillow raises the first three


@dataclass(frozen=True)
class Layer:
    """A picture's file.

    Args:
        path: where it is.
        name: its path from the page's folder; ``None`` for a user's own, which is not linked.
    """

    path: Path
    name: str | None = None


@dataclass(frozen=True)
class Layers:
    """The files of one image by label, in order, and which of them are results."""

    files: Mapping[str, Layer]
    results: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many pictures they make."""
        return len(self.files) + (len(self.results) if REFERENCE in self.files else 0)


@dataclass(frozen=True)
class Drawn:
    """The pictures of one image, the error of each result, and what could not be read."""

    pictures: tuple[Picture, ...]
    errors: tuple[Picture, ...]
    notes: tuple[str, ...]

    def index(self, *labels: str) -> int:
        """Return the place of the first of these labels that there is, or of the first picture."""
        known = [picture.label for picture in self.pictures]
        return next((known.index(name) for name in labels if name in known), 0)


def draw(cases: Sequence[Layers]) -> list[Drawn]:
    """Make the pictures of a page, several at a time: a file that cannot be read is noted and left out."""
    embed = Embedder(sum(case.count for case in cases))
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda case: _drawn(embed, case), cases))


def _drawn(embed: Embedder, case: Layers) -> Drawn:
    images: dict[str, Image.Image] = {}
    notes = []
    for label, layer in case.files.items():
        try:
            images[label] = opened(layer.path, foreign=layer.name is None)
        except UNREADABLE as error:
            notes.append(f"{layer.path} cannot be read and is left out: {error}")
    pictures = []
    for label, image in images.items():
        name = case.files[label].name
        pictures.append(Picture(label, embed(image), None if name is None else link(name)))
    true = images.get(REFERENCE)
    errors = [
        Picture(label, embed(error_map(images[label], true)))
        for label in case.results
        if true is not None and label in images and images[label].size == true.size
    ]
    return Drawn(tuple(pictures), tuple(errors), tuple(notes))
