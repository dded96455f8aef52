"""Images in an order, such as frames of a video: each is searched from the solution of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ilo_pl.generators.point import Point
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.latents import load_point


class Predecessors:
    """Where the search of an image begins: at the solution of the image before it, from the run folder.

    So a run that was stopped goes on from what is on the disk.

    Args:
        folder: the run folder.
        ids: ids of all images, in order.
    """

    def __init__(self, folder: RunFolder, ids: Sequence[str]) -> None:
        self._folder = folder
        self._ids = list(ids)

    def find(self, image_id: str) -> Path | None:
        """Return the latents file of the nearest image before this one that has been solved."""
        for earlier in reversed(self._ids[: self._ids.index(image_id)]):
            path = self._folder.path / "latents" / f"{earlier}.safetensors"
            if path.exists():
                return path
        return None

    def __call__(self, ids: Sequence[str]) -> Point:
        """Return the solution before an image, as a :data:`~ilo_pl.inversion.task.Start`.

        Raises:
            InputError: its file is damaged.
        """
        (image_id,) = ids
        path = self.find(image_id)
        assert path is not None, "the first image has none"
        return load_point(path)[0]
