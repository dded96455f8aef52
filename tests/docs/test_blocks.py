"""Every block of the README and of docs/*.md runs, or is composed, or is named here with its reason."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import click
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import ilo_pl
from ilo_pl import load_method
from ilo_pl.cli import cli
from ilo_pl.config.compose import load_config
from ilo_pl.config.typed_command import TypedCommand
from ilo_pl.io.images import to_bytes, to_picture
from ilo_pl.paper.sweep import make_plan
from ilo_pl.runs.multirun import plan
from tests.conftest import command
from tests.docs.blocks import ROOT, Block, blocks

BLOCKS = blocks()
# Text in blocks that nothing could run; each says what it is.
FORMULAS = {
    "docs/methods.md": ("x' = argmin", "min over z, d"),
    "docs/theory.md": ("m >= C",),
    "docs/photos.md": ('{"astronaut"',),  # a file of landmarks, with its middle left out
}
# Programs of others, which are not ours to try: how they are called is their documentation's.
OTHERS = {"mkdir", "tensorboard", "mlflow", "wandb", "scontrol", "if", "status=$?"}
# The real generator and its methods become the tiny one and what it can do.
SUBSTITUTIONS = {
    "MobileStyleGAN.pretrained()": "TinyGenerator()",
    "import MobileStyleGAN": "import MobileStyleGAN, TinyGenerator",
    "InverseTask, MobileStyleGAN": "InverseTask, MobileStyleGAN, TinyGenerator",
    "Mask, MobileStyleGAN": "Mask, MobileStyleGAN, TinyGenerator",
    "1024": "32",
    "angles=60": "angles=12",
    "bf16-mixed": "32-true",
}
# A block that the text before it says to save.
SAVED = {"docs/generators.md": "mine.py"}


def names(blocks: list[Block]) -> list[str]:
    return [block.place for block in blocks]


def of(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: Tensor) -> Path:
    """A folder with the files that blocks speak of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    for name in ("photo.png", "faces/a.png", "faces/b.png"):
        to_picture(to_bytes(truth[0])).save(name)
    return tmp_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods with few steps at splits that the tiny generator has, and Trainers that keep quiet."""

    def few(name: str, task: str | None = None, **keys: Any) -> Any:
        if "posterior" in keys:
            keys["posterior"] = {**keys["posterior"], "burn_in": 20, "thin": 2, "leaps": 2}
            return load_method(name, task, **{**keys, "steps": 2})
        keys = {"splits": [0, 2, 3], **keys, "steps": 2, "free_noises": 0}
        return load_method(name, task, **keys)

    made = pl.Trainer

    def trainer(**options: Any) -> pl.Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        return made(**{**options, **quiet, "accelerator": "cpu", "devices": 1})

    monkeypatch.setattr(ilo_pl, "load_method", few, raising=False)
    monkeypatch.setattr("ilo_pl.deepinv.load_method", few)
    monkeypatch.setattr(pl, "Trainer", trainer)


def test_there_are_blocks_of_every_kind() -> None:
    assert len(of("python")) >= 8 and len(of("shell")) >= 25
    assert {block.kind for block in BLOCKS} <= {"python", "shell", "text"}


@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}))
@pytest.mark.usefixtures("small")
def test_python_runs(page: str, workplace: Path, truth: Tensor) -> None:
    """The blocks of a page one after the other, as a reader would paste them."""
    space: dict[str, Any] = {"images": ((truth[:1] + 1) / 2)}
    for block in of("python"):
        if block.page != page or _is_excerpt(block):
            continue
        text = block.text
        for real, tiny in SUBSTITUTIONS.items():
            text = text.replace(real, tiny)
        with warnings.catch_warnings():
            # What Lightning and others say to a user who has no quiet command around them.
            warnings.simplefilter("ignore")
            exec(compile(text, block.place, "exec"), space)


def _is_excerpt(block: Block) -> bool:
    return block.page == "docs/architecture.md"


def test_the_excerpt_of_the_algorithm_is_the_algorithm() -> None:
    source = (ROOT / "ilo_pl/inversion/algorithm.py").read_text()
    lines = {line.strip() for line in source.splitlines()}
    excerpt = next(block for block in of("python") if _is_excerpt(block))
    shown = [line.strip() for line in excerpt.text.splitlines() if line.strip()]
    assert len(shown) >= 20 and [line for line in shown if line not in lines] == []


@pytest.mark.parametrize("block", of("shell"), ids=names(of("shell")))
def test_commands_are_understood(block: Block, workplace: Path) -> None:
    syntax = subprocess.run(
        ["bash", "-n"], check=False, input=block.text, text=True, capture_output=True
    )
    assert (syntax.returncode, syntax.stderr) == (0, "")
    for words in block.commands():
        understand(words)


def understand(words: list[str]) -> None:
    """Raise where a command is not one: what is ours is composed, what we ship is there."""
    while "=" in words[0] and words[0].split("=")[0].isupper():
        words = words[1:]
    program, rest = words[0], words[1:]
    ours = next((n for n, word in enumerate(words) if word in ("ilo-pl", "ilo_pl")), None)
    if ours is not None:
        compose(words[ours + 1 :])
    elif program == "make":
        targets = (ROOT / "Makefile").read_text()
        assert f"\n{rest[0]}:" in targets
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = [word.partition("[")[2].rstrip("]") for word in rest if "ilo_pl[" in word]
        wanted = {name for names in asked for name in names.split(",")}
        assert wanted <= set(extras["optional-dependencies"])
    elif program == "python" and rest[0] == "-c":
        compile(rest[1], "-c", "exec")
    elif program == "python":
        source = (ROOT / rest[0]).read_text()
        flags = [word for word in rest[1:] if word.startswith("--")]
        assert [flag for flag in flags if f'"{flag}"' not in source] == []
    else:
        assert program in OTHERS, f"{program} is nothing that is known"


def compose(words: list[str]) -> None:
    """Compose what a command line of ours asks for, without running it."""
    name, keys = words[0], words[1:]
    if name == "invert":
        flags = {word for word in keys if word.startswith("-")}
        given = [word for word in keys if word not in flags]
        if "--multirun" in flags:
            plan(given)
        elif not _goes_on(given):
            load_config(given)
        return
    if name == "experiment":
        # The small version has fewer runs, with the same keys.
        make_plan(keys[0], [word for word in keys[1:] if word != "--quick"], quick=True)
        return
    found: click.Command = cli.commands[name]
    if isinstance(found, click.Group):
        found, keys = found.commands[keys[0]], keys[1:]
    context = found.make_context(name, list(keys))
    if isinstance(found, TypedCommand):
        inner, found.callback = found.callback, lambda keys: keys
        try:
            assert found.invoke(context) is not None
        finally:
            found.callback = inner


def _goes_on(keys: list[str]) -> bool:
    """Whether a line goes on with the run in a folder, which has to be there; tests/config/test_resume.py has."""
    return {key.partition("=")[0] for key in keys} == {"output", "resume"}


def test_formulas_are_the_only_text_in_blocks() -> None:
    for block in of("text"):
        known = FORMULAS.get(block.page, ())
        assert any(block.text.strip().startswith(start) for start in known), block.place


def test_the_first_commands_of_the_readme_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        words[1:]
        for block in of("shell")
        if block.page == "README.md"
        for words in block.commands()
        if words[:2] == ["ilo-pl", "invert"]
    ]
    tiny = ("generator=tiny", "method.steps=2", "method.free_noises=0", "compile=false")
    first, third = lines[0], lines[2]
    assert command(monkeypatch, *first, *tiny, "method.splits=[0,2]") == 0
    assert (workplace / "results/reconstructions/photo.png").is_file()
    again = [word.replace("results", "others") for word in third]
    assert command(monkeypatch, *again, *tiny) == 0
    assert len(list((workplace / "others/reconstructions").iterdir())) == 2


def test_the_generator_in_20_lines_keeps_the_contract(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = next(block for block in of("python") if block.page in SAVED)
    (workplace / SAVED[mine.page]).write_text(mine.text)
    monkeypatch.syspath_prepend(workplace)
    with torch.random.fork_rng():
        assert command(monkeypatch, "check-generator", "mine:make") == 0
    sys.modules.pop("mine", None)
