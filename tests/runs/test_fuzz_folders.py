"""Run folders and checkpoints that somebody, or a disk, has changed: one message or the right results.

``ILO_PL_MUTATIONS=2000`` tries as many by hand.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from rich.console import Console

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.errors import Stopped
from ilo_pl.io.images import to_bytes
from ilo_pl.runs.run import run
from tests.conftest import command

MUTATIONS = int(os.environ.get("ILO_PL_MUTATIONS", "60"))
NAMES = ("ann", "bob")
WORDS: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1.5e308,
    "",
    "x" * 3000,
    [],
    {},
    [[[]]],
    {"a": 1},
    "../x",
]


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that is done, and one that was stopped within its second batch."""
    place = tmp_path_factory.mktemp("runs")
    faces = place / "faces"
    faces.mkdir()
    drawn = TinyGenerator(0)(torch.randn(2, 16, generator=torch.Generator().manual_seed(5)))
    for name, image in zip(NAMES, drawn, strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(faces / f"{name}.png")
    keys = [f"input={faces}", "generator=tiny", "method.splits=[0,2]", "method.steps=3"]
    keys += ["method.free_noises=4", "save_measurements=true", "compile=false"]
    run(load_config([*keys, f"output={place}/done"]), Console(quiet=True))
    with pytest.raises(Stopped):
        run(
            load_config([*keys, f"output={place}/stopped"]),
            Console(quiet=True),
            callbacks=[StopAt()],
        )
    assert list((place / "stopped" / "state" / "checkpoints").iterdir())
    return {"done": place / "done", "stopped": place / "stopped"}


def within(node: Any, dice: random.Random) -> Any:
    """Return a JSON value with something in it replaced."""
    if isinstance(node, dict) and node and dice.random() < 0.8:
        key = dice.choice(list(node))
        if dice.random() < 0.15:
            return {k: v for k, v in node.items() if k != key}
        return {**node, key: within(node[key], dice)}
    if isinstance(node, list) and node and dice.random() < 0.7:
        place = dice.randrange(len(node))
        return [*node[:place], within(node[place], dice), *node[place + 1 :]]
    return dice.choice(WORDS)


def mutate(path: Path, dice: random.Random) -> str:
    """Change one file in one of the ways of disks and people; say how."""
    data = path.read_bytes()
    if path.suffix == ".json" and dice.random() < 0.6:
        path.write_text(json.dumps(within(json.loads(data), dice)))
        return "another value"
    how = dice.choice(["cut", "flip", "empty", "gone", "folder", "link", "noise", "twice"])
    if how == "cut":
        path.write_bytes(data[: dice.randrange(max(len(data), 1))])
    elif how == "flip" and data:
        changed = bytearray(data)
        for _ in range(dice.choice([1, 5, 50])):
            changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
    elif how == "noise":
        path.write_bytes(dice.randbytes(dice.choice([1, 100, 5000])))
    elif how == "twice":
        path.write_bytes(data + data)
    else:
        path.unlink()
        if how == "empty":
            path.touch()
        elif how == "folder":
            path.mkdir()
        elif how == "link":
            path.symlink_to("/nowhere")
    return how


def pixels(folder: Path) -> dict[str, bytes]:
    """Return the pixels of the results, whatever the files' bytes."""
    found = {}
    for name in NAMES:
        with Image.open(folder / "reconstructions" / f"{name}.png") as picture:
            found[name] = picture.tobytes()
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_changed_folder_gives_the_right_results_or_one_message(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = pixels(folders["done"])
    dice = random.Random(int(os.environ.get("ILO_PL_SEED", "0")))
    ends: dict[int, int] = {}
    for number in range(MUTATIONS):
        out = tmp_path / str(number)
        shutil.copytree(folders[dice.choice(["done", "stopped"])], out)
        files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "locks")
        changed = [
            (f.relative_to(out), mutate(f, dice))
            for f in dice.sample(files, dice.choice([1, 1, 2]))
        ]
        began = time.process_time()
        status = command(monkeypatch, "invert", f"output={out}", "resume=true")
        said = capsys.readouterr()
        told = f"{number} {changed}: {status}\n{said.err[-2000:]}"
        assert time.process_time() - began < 30, told
        assert status in (0, 2), told
        assert "Traceback" not in said.err, told
        ends[status] = ends.get(status, 0) + 1
        if status == 2:
            assert said.err.count("error:") == 1, told
        elif not any(str(f) in ("config.yaml", "state/run.json") for f, _ in changed):
            assert pixels(out) == expected, told
        shutil.rmtree(out)
    assert ends.get(0, 0) > MUTATIONS / 4
    assert ends.get(2, 0) > MUTATIONS / 50


def code_that_runs(folder: Path) -> Callable[[], None]:
    """Return something that a pickle would run, which leaves a file behind."""

    class Payload:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {folder}/ran",))

    return lambda: torch.save({"state_dict": {}, "ilo": Payload()}, folder / "evil.ckpt")


def test_a_strangers_checkpoint_runs_nothing(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(folders["stopped"], out)
    code_that_runs(tmp_path)()
    place = out / "state" / "checkpoints"
    for file in place.iterdir():
        if file.suffix == ".ckpt":
            shutil.copy(tmp_path / "evil.ckpt", file)
        else:
            file.unlink()
    with pytest.warns(UserWarning, match="skipped"):
        run(load_config([f"output={out}", "resume=true"]), Console(quiet=True))
    assert not (tmp_path / "ran").exists()
    assert pixels(out) == pixels(folders["done"])
