"""``ilo-pl demo``: the shipped portrait from a tenth of its pixels, CSGM against ILO at equal steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from rich.console import Console

from ilo_pl.config.compose import load_config
from ilo_pl.config.overrides import override_texts, read_overrides
from ilo_pl.config.run import RUN_PATHS
from ilo_pl.errors import ConfigurationError
from ilo_pl.evaluation.report import row_of, scores_table, write_grid
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs.run import run

METHODS = ("csgm", "ilo")
CHOSEN = ("input", "reference", "method")


def portrait() -> Path:
    """Return the path of the shipped portrait (NASA, Eileen Collins, public domain), 1024 x 1024."""
    return Path(str(resources.files("ilo_pl") / "paper" / "assets" / "portrait.png"))


def run_demo(overrides: Sequence[str], console: Console) -> None:
    """Run both methods, draw the pictures side by side and print the figures.

    Args:
        overrides: ``output=DIR`` and any other key but ``input``, ``reference`` and ``method``.
        console: where the figures are printed.

    Raises:
        IloError: a key is wrong or the output folder cannot be used.
    """
    output, rest = _read(overrides)
    output.check()
    started = time.monotonic()
    image = portrait()
    groups = []
    for method in METHODS:
        folder = output.path / method
        paths = {"input": str(image), "reference": str(image), "output": str(folder)}
        keys = [f"method={method}", *override_texts(paths), *rest]
        groups.append((method, run(load_config(keys), Console(stderr=True), method)))
    csgm, ilo = (row_of(RunFolder(output.path / m), image.stem, image) for m in METHODS)
    grid = write_grid(
        output,
        [
            {
                "truth": image,
                "measurements": csgm["measurements"],
                "CSGM": csgm["result"],
                "ILO": ilo["result"],
            }
        ],
    )
    console.print(scores_table("10 % of the pixels observed, equal steps", groups))
    console.print(f"Pictures: {grid} and {output.path / 'ilo' / 'grid.png'}", markup=False)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


def _read(overrides: Sequence[str]) -> tuple[RunFolder, list[str]]:
    """Return the folder to write, and the keys of both runs."""
    given = read_overrides(overrides, RUN_PATHS)
    taken = [g.key for g in given if g.key in CHOSEN]
    if taken:
        raise ConfigurationError(
            f"The demo chooses {taken[0]} itself.",
            hint="Use ilo-pl invert for your own images and methods.",
        )
    named = [g.value for g in given if g.key == "output"]
    rest = [g.text for g in given if g.key != "output"]
    return RunFolder(Path(str(named[-1] if named else "demo"))), rest
