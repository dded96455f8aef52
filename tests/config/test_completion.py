"""What a shell is told between two keys of its user, and what ``--help`` says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ilo_pl.cli import cli
from ilo_pl.config import completion
from ilo_pl.config.choices import choices
from ilo_pl.config.run import RUN_PATHS
from ilo_pl.config.typed_command import TypedCommand
from tests.conftest import command

TASKS = choices("task")


def complete(line: str, folder: Path) -> tuple[list[str], str]:
    """Ask as click's script for bash does; the last word is the one that is being typed."""
    words = line.split(" ")
    asked = {
        "_ILO_PL_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = (
        "import sys, ilo_pl.__main__\n"
        "try:\n    ilo_pl.__main__.main()\n"
        "finally:\n    print(sorted({'torch', 'hydra'} & set(sys.modules)), file=sys.stderr)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked, "PYTHONPATH": root},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return [item.partition(",")[2] for item in done.stdout.split()], done.stderr.strip()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ilo-pl prepare align si", ["size="]),
        ("ilo-pl prepare align face=", ["face=largest", "face=all", "face=centre"]),
        ("ilo-pl prepare align face =", ["largest", "all", "centre"]),  # bash ends words at =
        ("ilo-pl prepare align size=9 face = a", ["all"]),
        ("ilo-pl prepare align --fa", ["--face"]),
        ("ilo-pl prepare align --face l", ["largest"]),
        ("ilo-pl prepare align input=ph", ["input=photos/"]),
        ("ilo-pl prepare collage inputs=[photos,ph", ["inputs=[photos,photos/"]),
        ("ilo-pl theory matri", ["matrices="]),
        ("ilo-pl invert task=", [f"task={task}" for task in TASKS]),
        ("ilo-pl invert method=csgm task = den", ["denoising"]),
        ("ilo-pl invert generator=t", ["generator=tiny"]),
        ("ilo-pl invert resume=", ["resume=true", "resume=false"]),
        ("ilo-pl invert operator.fr", ["operator.fraction="]),
        ("ilo-pl invert operator.file=photos/a", ["operator.file=photos/ann.png"]),
        ("ilo-pl experiment table", ["table1_sna"]),
        ("ilo-pl comp", ["completion"]),
    ],
)
def test_what_a_shell_is_told(tmp_path: Path, line: str, expected: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "ann.png").touch()
    assert complete(line, tmp_path) == (expected, "[]")


def test_the_keys_of_a_run_are_those_that_it_has() -> None:
    """The YAML files are read alone; the typed configuration and Hydra say the same."""
    from hydra import compose, initialize_config_dir

    from ilo_pl.config.choices import config_dir
    from ilo_pl.config.keys import _nodes

    told = set(completion._run_values())
    assert set(completion.RUN_PATHS) == RUN_PATHS - {"operator.parts.file"}
    picks = [
        ["operator=blur", "task=deblurring"],
        ["follow=frames"],
        ["logger=mlflow"],
        ["generator=custom"],
    ]
    with initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        for pick in [[], *picks]:
            from omegaconf import OmegaConf

            nodes = dict(_nodes(OmegaConf.to_container(compose("default", pick))))
            leaves = {
                k for k, v in nodes.items() if not isinstance(v, dict) and not k.endswith(".name")
            }
            assert leaves <= told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    assert command(monkeypatch, "completion", shell) == 0
    script = capsys.readouterr().out
    assert "_ILO_PL_COMPLETE" in script and "ilo-pl" in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True, check=False)
        assert checked.returncode == 0


def typed(group: click.Group) -> dict[str, TypedCommand]:
    found = {}
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            found |= {f"{name} {inner}": c for inner, c in typed(one).items()}
        elif isinstance(one, TypedCommand):
            found[name] = one
    return found


@pytest.mark.parametrize("name", typed(cli))
def test_help_explains_every_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert command(monkeypatch, *name.split(), "--help") == 0
    told = " ".join(capsys.readouterr().out.split())
    for key, field in typed(cli)[name].spec.model_fields.items():
        assert field.description
        assert f"--{key}" in told
        assert " ".join(field.description.split())[1:] in told
        assert field.is_required() == (f"{key}=" in told.partition("[key=value ...]")[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--boxes", "[1,2,3,4]", "--output", "x.png", "--size", "9"], ""),
        (["boxes=[1,2,3,4]", "--output=photo (1).png", "--size", "[9,8]"], ""),
        (
            ["--boxes", "[1,2,3,4]", "output=x.png", "size=9", "--size", "8"],
            "'size' is given twice",
        ),
        (
            ["--boxes", "[1,2,3,4]", "--output", "x.png", "--size", "many"],
            "size = 'many' cannot be used: give a list.\nilo-pl prepare box --help",
        ),
        (["--box", "[1,2,3,4]", "--output", "x.png"], "--boxes"),
        (["--size", "9"], "output and boxes must be given"),
    ],
)
def test_an_option_is_a_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status = command(monkeypatch, "prepare", "box", *options)
    err = capsys.readouterr().err
    assert status == (2 if says else 0), err
    assert says in err
    assert len(list(tmp_path.iterdir())) == (0 if says else 1)


def test_a_switch_and_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(
        "ilo_pl.prepare.pictures.run_mask", lambda keys, console: seen.append(keys) or ("Done", 0)
    )
    base = ["prepare", "mask", "input=a", "output=b"]
    for more in ([], ["--invert"], ["--no-invert"], ["invert=true", "--threshold", "0.25"]):
        assert command(monkeypatch, *base, *more) == 0
    assert [(keys.invert, keys.threshold) for keys in seen] == [
        (False, 0.5), (True, 0.5), (False, 0.5), (True, 0.25),
    ]  # fmt: skip
    assert command(monkeypatch, "prepare", "align", "--face", "smallest") == 2
    assert "'largest', 'all'" in capsys.readouterr().err
