"""Configurations, overrides and config.yaml texts that went wrong: one message, or a valid run, and nothing written."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ilo_pl.config.compose import load_config
from ilo_pl.config.saved import load_run_config
from ilo_pl.errors import IloError
from tests.conftest import command

SEED = 20240711
BASE = ["input=a.png", "output=out", "generator=tiny"]
KEYS = [
    "input", "output", "reference", "resume", "seed", "samples", "batch_size", "compile", "simulate", "task", "task.name",
    "generator", "generator.name", "generator.weights", "generator.seed", "operator", "operator.fraction", "operator.file",
    "operator.box", "operator.colour", "noise", "noise.sigma", "method", "method.name", "method.splits", "method.steps",
    "method.rounds", "method.lr", "method.lr_scale.hidden", "method.radii", "method.radii.hidden", "method.sphere.noises",
    "method.losses", "method.losses.mse", "method.sna", "method.validation", "method.latent_space", "follow",
    "follow.name", "trainer.devices", "trainer.precision", "trainer.checkpoint_minutes", "logger", "logger.uri", "nokey",
]  # fmt: skip
VALUES = [
    "0", "1", "-1", "1e999", "-inf", "nan", "9" * 5000, "1e308", "0.5", "true", "null", "", "''", "x", "[]", "{}", "[1,2]",
    "[[1],[2]]", "[1,x,null]", "{a:1}", "{name:mask}", "{weight:1}", "{weight:[1,{}]}", "ilo,csgm", "range(1,4)", "glob(*)",
    "tag(a,1)", "int(x)", "sort(3,1)", "shuffle(1,2)", "${seed}", "${input}", "${nope}", "${oc.env:NOPE}", "${last:${method}}",
    "${below:1,2}", "'a b'", "\"", "'", "\\", "é" * 50, "\udcff", "\x00", "\n", "???", "[" * 3000, "{a:" * 200, "[" * 15 + "]" * 15,
    "a" * 9000, "frames", "bm3d", "ood_generation", "measured", "2024_07", "/", "..", "~", "=", "a=b", "@", "0x1f", "1_0",
]  # fmt: skip


def mutated(draw: random.Random, text: str) -> str:
    """Return a text with a few characters cut, doubled, moved or replaced."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text) + 1)
        size = draw.choice((1, 1, 1, 5, 40))
        part = text[at : at + size]
        put = draw.choice(
            (
                "",
                part * 2,
                part[::-1],
                draw.choice(VALUES)[:300],
                draw.choice("[]{}()'\"$,:=&*!|>\t#-"),
            )
        )
        text = text[:at] + put + text[at + size :]
    return text  # fmt: skip


def overrides(draw: random.Random) -> Iterator[list[str]]:
    for _ in range(110):
        more = []
        for _ in range(draw.randint(1, 3)):
            one = f"{draw.choice(['', '', '', '+', '++', '~'])}{draw.choice(KEYS)}={draw.choice(VALUES)}"
            more.append(mutated(draw, one) if draw.random() < 0.4 else one)
        yield [*draw.sample(BASE, draw.choice((2, 3, 3, 3))), *more]


def survives(act: Callable[[], object], what: str) -> bool:
    """Return whether a configuration was made; anything else must be a message of ours, and soon."""
    started = time.monotonic()
    try:
        act()
        made = True
    except IloError as error:
        text = str(error)
        short = bool(text.strip()) and len(text) < 5000
        assert short, ascii(what)[:300]
        assert not re.search(r"hydra|Traceback|object_type|full_key", text, re.IGNORECASE), text
        made = False
    except BaseException as error:
        raise AssertionError(f"{ascii(what)[:500]}: {error!r}") from error
    assert time.monotonic() - started < 5, ascii(what)[:300]
    return made


def test_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(SEED)
    made = [survives(lambda k=keys: load_config(k), str(keys)) for keys in overrides(draw)]  # type: ignore[misc]
    assert 0 < sum(made) < len(made) - 20
    assert not list(tmp_path.iterdir())


def test_texts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(SEED)
    config = load_config([*BASE, "method.losses.mse={weight:1}"]).model_dump()
    whole = OmegaConf.to_yaml(OmegaConf.create(config))
    assert len(whole) < 3000
    lines = whole.splitlines()
    texts = [mutated(draw, whole) for _ in range(150)]
    for _ in range(150):
        at = draw.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        value = draw.choice(
            [
                *VALUES,
                "&a [*a]",
                "&a {b: *a}",
                "!!binary x",
                "!!set {1}",
                "1:1",
                "2024-01-01",
                "<<: 1",
                "|",
                "0x" + "f" * 6000,
            ]
        )
        texts.append("\n".join([*lines[:at], f"{key}{colon} {value}", *lines[at + 1 :]]))
    path = tmp_path / "config.yaml"
    made = []
    for text in texts:
        path.write_bytes(text.encode(errors="surrogateescape"))
        made.append(survives(lambda: load_run_config(tmp_path), text))
    assert 20 < sum(made) < len(made) - 20
    assert list(tmp_path.iterdir()) == [path]  # fmt: skip


def test_the_command_ends_with_2_and_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``prepare``, ``theory``, ``demo`` and ``experiment`` read keys with the same parser."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(SEED)
    commands = (
        ["prepare", "box", "output=x.png"],
        ["prepare", "align", "input=nowhere", "output=x"],
        ["prepare", "blend", "output=x"],
        ["theory", "output=x", "run=nowhere"],
        ["demo", "output=x", "generator=nope"],
        ["experiment", "figure2_inpainting", "output=x", "input=nowhere"],
        ["invert", "input=nowhere", "output=x"],
    )
    keys = [
        "boxes",
        "size",
        "face",
        "eyes",
        "inputs",
        "weight",
        "k",
        "counts",
        "matrices",
        "seed",
        "levels",
        "methods",
        "output",
    ]
    for number in range(56):
        base = commands[number % len(commands)]
        one = f"{draw.choice(keys)}={draw.choice(VALUES)}"
        if draw.random() < 0.3:
            one = mutated(draw, one)
        if one.startswith("-"):
            continue
        status = command(monkeypatch, *base, one)
        out = capsys.readouterr()
        assert status == 2, ascii([*base, one])
        assert out.err.startswith(("error: ", "Usage: ")) and "Traceback" not in out.err, out.err
        assert not list(tmp_path.iterdir()), ascii([*base, one])  # fmt: skip
