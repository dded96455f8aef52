"""A finished batch of images, as a run folder keeps it in ``state/units``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter

from ilo_pl.errors import InputError, OutputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.content import Stamp, is_whole, stamp
from ilo_pl.runs.latents import load_point


@dataclass(frozen=True)
class Entry:
    """A finished batch of images.

    Args:
        ids: its images.
        seconds: how long the search of each took.
        failures: why images could not be used, by id.
        faults: how often an image's loss was not finite, by id, where it happened.
        errors: RMS of A x - y of each image in 8-bit grey levels, as it was found and as it is returned.
        files: what was written, by its place in the run folder.
    """

    ids: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    files: dict[str, Stamp] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes) -> Entry:
        """Read an entry.

        Raises:
            ValueError: it is none.
        """
        return TypeAdapter(cls).validate_json(text)

    def text(self) -> str:
        """Return the entry as JSON."""
        return TypeAdapter(Entry).dump_json(self).decode()

    def first_damaged(self, folder: RunFolder) -> Path | None:
        """Return a file that does not hold what it held, ``None`` where all do."""
        if self.files:
            paths = ((folder.path / name, known) for name, known in self.files.items())
            return next((path for path, known in paths if not is_whole(path, known)), None)
        # A folder of an older version does not say; what can be read is believed.
        results = [folder.path / "reconstructions" / f"{i}.png" for i in self.found]
        latents = [folder.path / "latents" / f"{i}.safetensors" for i in self.found]
        return next(filter(_unreadable, [*results, *latents]), None)

    @property
    def found(self) -> list[str]:
        """Ids of the images that have results."""
        return [i for i in self.ids if i not in self.failures]


def stamps(folder: RunFolder, paths: Iterable[Path]) -> dict[str, Stamp]:
    """Return what files of a folder hold, for an :class:`Entry`.

    Raises:
        OutputError: one of them is not there.
    """
    try:
        return {path.relative_to(folder.path).as_posix(): stamp(path) for path in paths}
    except OSError as error:
        raise OutputError(f"{error.filename} was written and is gone.") from error


def _unreadable(path: Path) -> bool:
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        else:
            load_point(path)
    except (OSError, ValueError, SyntaxError, InputError):  # Pillow raises all of these
        return True
    return False
