"""What a run is, in its folder: ``state/run.json``, and how it differs from what it is to go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ilo_pl.config.differences import changes
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.content import Stamp, content, replaced

NAME = "state/run.json"
NAMED = 5


class RunRecord(BaseModel):
    """Its configuration, the ids of its images, and what its files hold.

    Args:
        config: the configuration.
        ids: ids of all images, in order.
        content: what the files hold; nothing in folders of an older version.
    """

    config: dict[str, Any]
    ids: list[str]
    content: dict[str, Stamp | str] = {}

    @classmethod
    def now(
        cls,
        config: RunConfig,
        ids: Sequence[str],
        files: Mapping[str, Path],
        before: RunRecord | None,
    ) -> RunRecord:
        """Return the record of a run that is to begin, or to go on.

        Raises:
            InputError: one of its files cannot be read.
        """
        known = before.content if before is not None else {}
        return cls(
            config=config.model_dump(mode="json"),
            ids=list(ids),
            content=content(config, files, known),
        )

    @classmethod
    def read(cls, folder: RunFolder) -> RunRecord | None:
        """Return the record in a folder, ``None`` where there is none.

        Raises:
            ConfigurationError: it is damaged.
        """
        path = folder.path / NAME
        try:
            record = cls.model_validate_json(path.read_bytes())
            size = record.config.get("batch_size")
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"batch_size = {size!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ConfigurationError(
                f"{path} is damaged, so that nobody can tell what the run in it is: {problem}.",
                hint="allow_changes=true goes on with what is given now and writes it again; batches that "
                "are done stay as they are. Or give another output=...",
            ) from None
        return record

    @property
    def batch_size(self) -> int:
        """How many images are in a batch."""
        return int(self.config["batch_size"])

    def write(self, folder: RunFolder) -> None:
        """Write the record into a folder."""
        folder.write_text(NAME, json.dumps(self.model_dump(mode="json")))

    def changes(self, now: RunRecord, files: Mapping[str, Path]) -> list[str]:
        """Return a line for each thing in which the run is not what it is to go on with.

        Args:
            now: what it is to go on with.
            files: the files of that.
        """
        lines = changes(self.config, now.config)
        if self.ids != now.ids:
            differ = sorted(set(self.ids) ^ set(now.ids))
            lines.append(f"images that were added or removed: {_some(differ) or 'order'}")
        if self.content:
            other = replaced(self.content, now.content, files)
            if other:
                lines.append(_some(other))
        return lines


def _some(words: Sequence[str]) -> str:
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")
