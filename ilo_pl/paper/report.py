"""``ilo-pl report``: the page of whatever a folder holds."""

from __future__ import annotations

from pathlib import Path

from ilo_pl.config.saved import is_run
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.folder import RunFolder
from ilo_pl.paper.demo import is_demo, report_demo
from ilo_pl.paper.experiment_file import RECORD
from ilo_pl.paper.experiment_page import report_experiment
from ilo_pl.runs.report import report_run


def report_folder(path: Path) -> Path:
    """Write ``report.html`` of a run, an experiment or the demo, and return its path.

    Raises:
        ConfigurationError: the folder holds none of them.
        IloError: something in it is damaged, or the page cannot be written.
    """
    folder = RunFolder(path)
    if (path / RECORD).is_file():
        return report_experiment(folder)
    if is_run(path):
        return report_run(folder)
    if is_demo(path):
        return report_demo(folder)
    raise ConfigurationError(
        f"{path} is not the folder of a run, an experiment or the demo.",
        hint="Give the folder that was output=... of the command that wrote it.",
    )
