"""What ``report.html`` shows, and how it is written: one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from ilo_pl.evaluation.curve import Curve
from ilo_pl.evaluation.report import DIGITS, HEADINGS
from ilo_pl.evaluation.thumbnails import Embedded, legend_uri
from ilo_pl.io.folder import RunFolder

NAME = "report.html"
TEMPLATES = resources.files("ilo_pl.evaluation") / "templates"
NAMES = {
    **HEADINGS,
    "id": "image",
    "measured_error_found": "measured error, found",
    "measured_error": "measured error",
}
# Columns that are no numbers, that were chosen as they are, and of which the size matters, not the difference.
NO_NUMBERS = ("id", "image", "stage", "method")
AS_WRITTEN = ("level",)
RELATIVE = ("mse", "loss")


@dataclass(frozen=True)
class Picture:
    """A picture with its label; ``link`` leads to the file it is a copy of, from the page."""

    label: str
    shown: Embedded
    link: str | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: what it says.
        value: the number that it is sorted by, if it is one.
        link: where it leads.
    """

    text: str
    value: float | None = None
    link: str | None = None

    @property
    def order(self) -> str:
        """The value as scripts read numbers."""
        words = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return "" if self.value is None else words.get(self.value, repr(self.value))


@dataclass(frozen=True)
class Table:
    """Rows of cells below headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def numbers(self) -> tuple[bool, ...]:
        """Whether the cells below each heading are numbers, as far as there are any."""
        return tuple(
            any(row[n].value is not None for row in self.rows) for n in range(len(self.headings))
        )


@dataclass(frozen=True)
class Case:
    """One image.

    Args:
        title: its id.
        pictures: what can be compared.
        left, right: which of them are compared at first.
        facts: names and values.
        errors: maps of the error, where there is a reference.
        table: of its stages or methods, as its title says.
        table_title: that title.
        curve: its loss by step.
        losses: link to the numbers behind it.
        animation: link to a moving picture of the search.
    """

    title: str
    pictures: tuple[Picture, ...]
    left: int
    right: int
    facts: tuple[tuple[str, str], ...] = ()
    errors: tuple[Picture, ...] = ()
    table: Table | None = None
    table_title: str = ""
    curve: Curve | None = None
    losses: str | None = None
    animation: str | None = None


@dataclass(frozen=True)
class Page:
    """All of a report.

    Args:
        title: above it.
        facts: names and values below that.
        table: what is sorted.
        cases: the images, in order.
        failures: ids and reasons of those that could not be used.
        notes: what the reader should know of the page.
        figures: pictures of all, as data URIs, with what they show.
        links: further files.
        config: the configuration as text.
        versions: of packages, by name.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    table: Table
    cases: tuple[Case, ...]
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    config: str = ""
    versions: tuple[tuple[str, str], ...] = ()


def write_page(folder: RunFolder, page: Page) -> Path:
    """Write ``report.html`` into a folder and return its path.

    Raises:
        OutputError: it cannot be written.
    """
    text = rendered(page)
    # Texts from elsewhere may hold what no encoding has.
    return folder.write_text(NAME, text.encode("utf-8", "backslashreplace").decode())


def rendered(page: Page) -> str:
    """Return a page as HTML; whatever it shows is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # a tenth of a second

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _template("palette.css") + _template("report.css")
    script = _template("report.js")
    return environment.get_template("report.html.j2").render(
        page=page,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        legend=legend_uri(),
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return what a content security policy calls a text: no other script or style is run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def link(name: str) -> str:
    """Return a link to a file of the page's folder, by its path from there."""
    return quote(name)


def heading(column: str) -> str:
    """Return what people call a column of a table."""
    return NAMES.get(column, column.replace("_", " "))


def cell(column: str, text: str) -> Cell:
    """Return the cell of a value from a CSV file."""
    if column in NO_NUMBERS:  # 007 is a name
        return Cell(text)
    try:
        value = float(text)
    except ValueError:
        return Cell(text)
    if column in AS_WRITTEN or text.lstrip("+-").isdigit():
        return Cell(text, value)
    digits = DIGITS.get(column, 1 if column == "seconds" else 3)
    tiny = 0 < abs(value) < 10**-digits
    exact = tiny or column in RELATIVE
    return Cell(f"{value:.3g}" if exact else f"{value:.{digits}f}", value)


def table_of(rows: Sequence[Mapping[str, str]], links: Sequence[str | None]) -> Table:
    """Return the table of a CSV file.

    Args:
        rows: values by column.
        links: where the first cell of each row leads.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = []
    for row, target in zip(rows, links, strict=True):
        first, *rest = (cell(column, row.get(column) or "") for column in columns)
        cells.append((replace(first, link=target), *rest))
    return Table(tuple(map(heading, columns)), tuple(cells))
