"""Ctrl-C before the command has begun to work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", ["click", "pydantic", "numpy", "torch", "pytorch_lightning"])
def test_an_interrupt_while_importing_ends_quietly(tmp_path: Path, module: str) -> None:
    """Python names each module as it has imported it: then the signal is sent, among the imports that follow."""
    command = [sys.executable, "-X", "importtime", "-m", "ilo_pl"]
    with subprocess.Popen(
        [*command, "invert", "input=nowhere.png", "output=out", "generator=tiny"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rpartition("|")[2].strip().startswith(f"{module}."):
                process.send_signal(signal.SIGINT)
                break
        said = "".join(line for line in process.stderr if not line.startswith("import time:"))
    assert process.returncode == 128 + signal.SIGINT
    assert said == "stopped before the end\n"
    assert not list(tmp_path.iterdir())


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """As a shell starts what runs in its background."""
    code = (
        "import signal, sys, os\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import ilo_pl.cli\n"
        "ilo_pl.cli.main = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "from ilo_pl.__main__ import main\n"
        "main()\nprint('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "went on\n"
