"""Tables in CSV files of a run folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ilo_pl.errors import InputError
from ilo_pl.io.folder import RunFolder


def write_table(folder: RunFolder, name: str, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows whose columns are those of all of them, in order of appearance.

    Args:
        folder: the run folder.
        name: name of the file.
        rows: values by column; what a row lacks stays empty, floats get six digits.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    )
    return folder.write_text(name, text.getvalue())


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The table {path} cannot be read: {error}.") from error


def write_seconds(folder: RunFolder, seconds: Mapping[str, float]) -> None:
    """Write ``seconds.csv``, how long each image took."""
    rows = [{"id": image_id, "seconds": spent} for image_id, spent in seconds.items()]
    write_table(folder, "seconds.csv", rows)
