"""Runs of a few images of the tiny generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.io.images import to_bytes
from ilo_pl.runs.run import run

NAMES = ["a", "b", "c"]


def draw(folder: Path, names: list[str], seed: int) -> None:
    """Write images that the tiny generator makes."""
    folder.mkdir(exist_ok=True)
    latents = torch.randn(len(names), 16, generator=torch.Generator().manual_seed(seed))
    for name, image in zip(names, TinyGenerator(seed=0)(latents), strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    draw(path, NAMES, seed=5)
    return path


@pytest.fixture
def go(folder: Path) -> Callable[..., str]:
    """Run two stages of six steps; return what was said."""

    def started(output: Path, *more: str, callbacks: tuple[pl.Callback, ...] = ()) -> str:
        few = ["method.splits=[0,2]", "method.steps=6", "method.free_noises=4", "logger=none"]
        few += ["method.deviation.steps=0"]
        keys = [f"input={folder}", f"output={output}", "generator=tiny", *few, *more]
        with (folder.parent / "said.txt").open("w+") as said:
            run(load_config(keys), Console(file=said, width=1000), "", callbacks)
            said.seek(0)
            return said.read()

    return started


class At(pl.Callback):
    """Does something after some of a run's steps."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.left, self.act = step, act

    def on_train_batch_end(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def files_of(output: Path) -> dict[str, object]:
    """Return what a run has written of its images; the order of metadata in latents is anybody's."""
    kinds = ("reconstructions", "measurements", "stages", "latents")
    return {
        str(p.relative_to(output)): (
            {k: v.tolist() for k, v in load_file(p).items()}
            if p.suffix == ".safetensors"
            else p.read_bytes()
        )
        for kind in kinds
        for p in (output / kind).iterdir()
    }
