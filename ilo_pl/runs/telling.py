"""What the command says of a run: a line for each image of a folder, the worst at the end; or JSON, for programs."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from ilo_pl.config.run import RunConfig
from ilo_pl.evaluation.guided import GuidedScores
from ilo_pl.evaluation.metrics import Scores
from ilo_pl.evaluation.report import HEADINGS, scores_table
from ilo_pl.io.video import is_video
from ilo_pl.runs.entry import Entry
from ilo_pl.runs.ledger import FAILURES

# So many images are shown at the end; metrics.csv has all.
SHOWN = 10


class Teller:
    """Says what happens: words and progress on standard error, results on standard output.

    Args:
        config: the run.
        quiet: say nothing; errors and warnings are not this class's.
        as_json: standard output has an object of JSON on each line and nothing else.

    Attributes:
        console: for words and progress.
    """

    def __init__(self, config: RunConfig, *, quiet: bool = False, as_json: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._config = config
        self._out = Console(quiet=quiet or as_json)
        self._json = as_json
        # Of a single image the end says all.
        self._lines = (
            not as_json and config.input is not None and not _is_picture(Path(config.input))
        )
        self._began = time.monotonic()
        self._seconds: list[float] = []

    def each(self, entry: Entry) -> None:
        """Say how the images of a batch ended, once their files are there."""
        self._seconds += entry.seconds.values()
        for image_id in entry.found:
            before, after = entry.errors.get(image_id, (None, None))
            seconds, faults = entry.seconds.get(image_id), entry.faults.get(image_id, 0)
            self._event(
                "image",
                id=image_id,
                seconds=seconds,
                measured_error_found=before,
                measured_error=after,
                faults=faults,
            )
            parts = [] if seconds is None else [f"{seconds:.1f} s"]
            if after is not None:
                parts.append(f"{after:.2f} grey levels from what was measured")
            if faults:
                parts.append(f"its loss was not finite {faults} times")
            self._line(f"{image_id}: {', '.join(parts) or 'done'}")
        for image_id, reason in entry.failures.items():
            self._event("failure", id=image_id, reason=reason)
            self._line(f"{image_id}: not used. {reason}")

    def end(self, scores: Sequence[Scores] | Sequence[GuidedScores]) -> bool:
        """Say what came of it, and return whether every image could be used."""
        folder = Path(self._config.output)
        failed, spent = (folder / FAILURES).exists(), time.monotonic() - self._began
        found = [asdict(score) for score in scores]
        self._event("end", output=str(folder), complete=not failed, seconds=spent, scores=found)
        if scores:
            worst = sorted(scores, key=_goodness)[:SHOWN]
            table = scores_table("", [(self._config.method.name, worst)])
            if len(scores) > 1:
                table.title = "The worst first"
                table.caption = _medians(scores)
            self._out.print(table)
        if len(self._seconds) > 1:
            typical = median(self._seconds)
            self._say(
                f"{len(self._seconds)} images in {spent:.0f} s; {typical:.1f} s in the median."
            )
        page = next(p for p in (folder / "report.html", folder / "grid.png") if p.exists())
        self._say(f"Results are in {folder}: look at {page}")
        if failed:
            self._say(f"Some images could not be used: see {folder / FAILURES}")
        return not failed

    def end_of_cluster(self, complete: bool, lines: Sequence[str], facts: dict[str, Any]) -> bool:
        """Say what came of a run of ``engine=ray``, and return whether every image could be used."""
        self._event("end", output=self._config.output, complete=complete, **facts)
        for line in lines:
            self._say(line)
        return complete

    def _say(self, text: str) -> None:
        self._out.print(text, markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if self._lines:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _event(self, event: str, **values: Any) -> None:
        """Write a line of JSON, at once and whole, for other processes write theirs."""
        if not self._json:
            return
        try:
            print(json.dumps(_finite({"event": event, **values}), allow_nan=False), flush=True)
        except (
            BrokenPipeError
        ):  # who listened has heard enough; Python would flush once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._json = False


def _is_picture(path: Path) -> bool:
    """Return whether an input is one image: no folder, list or video."""
    return path.is_file() and path.suffix.lower() != ".txt" and not is_video(path)


def _finite(value: Any) -> Any:
    """Return the same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _goodness(score: Scores | GuidedScores) -> float:
    return score.psnr if isinstance(score, Scores) else score.probability


def _medians(scores: Sequence[Scores] | Sequence[GuidedScores]) -> str:
    """Return the median of each score, and where the images are that are not shown."""
    names = [f.name for f in fields(scores[0]) if f.name != "id"]
    middle = {name: median(getattr(score, name) for score in scores) for name in names}
    words = {name: HEADINGS.get(name, name.replace("_", " ")) for name in names}
    text = ", ".join(f"{words[name]} {value:.3f}" for name, value in middle.items())
    more = len(scores) - SHOWN
    return f"Medians: {text}" + (f". {more} more in metrics.csv" if more > 0 else "")
