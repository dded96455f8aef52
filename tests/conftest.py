from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Mask, MobileStyleGAN, Schedule, TinyGenerator, cli

IDS = ("ann", "bob", "cyd", "dee")


@pytest.fixture(scope="session")
def tiny() -> TinyGenerator:
    return TinyGenerator(seed=0)


@pytest.fixture(scope="session")
def real() -> MobileStyleGAN:
    return MobileStyleGAN.pretrained()


@pytest.fixture(scope="session")
def truth(tiny: TinyGenerator) -> Tensor:
    """Four images in the tiny generator's range, each with its own latent for every slot."""
    latents = torch.randn(4, tiny.num_slots, 16, generator=torch.Generator().manual_seed(7))
    return tiny(latents, "z").clamp(-1, 1)


@pytest.fixture(scope="session")
def mask(truth: Tensor) -> Mask:
    return Mask.random((3, 32, 32), 0.3, seed=0, image_ids=IDS)


@pytest.fixture
def make_task(tiny: TinyGenerator, truth: Tensor, mask: Mask) -> Callable[..., InverseTask]:
    def make(
        schedule: Schedule, indices: tuple[int, ...] = (0, 1, 2, 3), **options: Any
    ) -> InverseTask:
        operator = mask.select(indices)
        return InverseTask(
            tiny,
            operator,
            operator(truth[list(indices)]),
            schedule=schedule,
            ids=[IDS[i] for i in indices],
            **options,
        )

    return make


@pytest.fixture
def fit() -> Callable[..., ILOInversion]:
    """Fit a task with a plain Trainer; extra arguments go to the Trainer."""

    def run(
        task: InverseTask,
        ckpt_path: str | None = None,
        compile: bool | Literal["auto"] = "auto",
        **options: Any,
    ) -> ILOInversion:
        inversion = ILOInversion(task, compile=compile)
        options = {"logger": False, "enable_checkpointing": False, **options}
        trainer = pl.Trainer(
            accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, **options
        )
        trainer.fit(inversion, ckpt_path=ckpt_path)
        return inversion

    return run


def images(inversion: ILOInversion) -> Tensor:
    """Return the images of all results, in the order of their ids."""
    return torch.stack([inversion.results[i].image for i in sorted(inversion.results)])


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run ``ilo-pl`` with arguments and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["ilo-pl", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
