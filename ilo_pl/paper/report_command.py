"""``ilo-pl report``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ilo_pl.errors import let_interrupts_unwind


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write report.html of a run, an experiment or the demo, finished or not: FOLDER.

    Each of them leaves one by itself, unless it is given report=false.
    """
    from ilo_pl.paper.report import report_folder  # torch takes seconds to import

    let_interrupts_unwind()
    written = report_folder(folder)
    Console().print(f"Written to {written}", markup=False, soft_wrap=True)
