"""What a Trainer can be given that would make results silently wrong, or silently missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Mask, Schedule, Stage, TinyGenerator
from ilo_pl.errors import InputError, TrainerError
from tests.conftest import IDS

Fit = Callable[..., ILOInversion]
MakeTask = Callable[..., InverseTask]
SHORT = Schedule(stages=(Stage(split=0, steps=4), Stage(split=1, steps=4)))


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true"])
def test_a_module_is_not_converted_once(make_task: MakeTask, fit: Fit, precision: str) -> None:
    with pytest.raises(TrainerError, match="later images would be searched in another precision"):
        fit(make_task(SHORT), precision=precision)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit_train_batches": 1}, "limit_train_batches = 1"),
        ({"limit_train_batches": 0.5}, "limit_train_batches = 0.5"),
        ({"overfit_batches": 2}, "overfit_batches"),
        ({"fast_dev_run": True}, "fast_dev_run"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, "GradientAccumulationScheduler"),
        ({"callbacks": [StochasticWeightAveraging(swa_lrs=1e-2)]}, "StochasticWeightAveraging"),
        ({"callbacks": [LearningRateFinder()]}, "LearningRateFinder"),
    ],
)
def test_what_changes_the_schedule_is_refused(
    make_task: MakeTask, fit: Fit, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(TrainerError, match=says):
        fit(make_task(SHORT), **options)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"max_steps": 3}, "ann, bob, cyd, dee"),
        ({"max_epochs": 1}, "cyd, dee"),
        ({"max_time": {"milliseconds": 1}, "batch": 1}, "cyd, dee"),
        (
            {
                "batch": 1,
                "callbacks": [EarlyStopping("loss", patience=0, mode="max", min_delta=1e9)],
            },
            "cyd, dee",
        ),
    ],
)
def test_images_without_a_result_are_named(
    make_task: MakeTask, fit: Fit, options: dict[str, Any], missing: str
) -> None:
    with pytest.warns(UserWarning, match=f"without a result: .*{missing}"):
        inversion = fit(make_task(SHORT, batch_size=options.pop("batch", 2)), **options)
    assert not set(missing.split(", ")) & set(inversion.results)


def test_a_loader_of_ones_own_is_refused(make_task: MakeTask) -> None:
    inversion = ILOInversion(make_task(SHORT))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    loader: Any = torch.utils.data.DataLoader([0.0] * 8)
    with pytest.raises(TrainerError, match="brings its own data"):
        trainer.fit(inversion, train_dataloaders=loader)


def test_a_checkpoint_alone_makes_no_inversion(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="ckpt_path"):
        ILOInversion.load_from_checkpoint(tmp_path / "some.ckpt")


def damage(saved: dict[str, Any], how: str) -> None:
    position, stage = saved["ilo"], "stage.latents"
    if how == "no position":
        del saved["ilo"]
    elif how == "older version":
        del position["walk"]["format"]
    elif how == "step of text":
        position["step"] = "three"
    elif how == "negative":
        position["step"] = -1
    elif how == "walk without its entry":
        del position["walk"]["entry"]
    elif how == "unknown phase":
        position["walk"]["phase"] = 99
    elif how == "latents of another shape":
        saved["state_dict"][stage] = saved["state_dict"][stage][..., :3]
    elif how == "no latents":
        del saved["state_dict"][stage]
    elif how == "solution of another generator":
        number, (split, point), centre = position["walk"]["entry"]
        point = {**point, "latents": torch.zeros(2, 4, 7)}
        position["walk"]["entry"] = (number, (split, point), centre)


@pytest.mark.parametrize(
    "how",
    [
        "no position",
        "older version",
        "step of text",
        "negative",
        "walk without its entry",
        "unknown phase",
        "latents of another shape",
        "no latents",
        "solution of another generator",
    ],
)
def test_wrong_content_of_a_checkpoint_is_an_error_for_people(
    make_task: MakeTask, fit: Fit, tmp_path: Path, how: str
) -> None:
    task = make_task(SHORT, (0, 1), batch_size=2)
    path = tmp_path / "at.ckpt"

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 6:
                trainer.save_checkpoint(path)

    fit(task, callbacks=[Save()])
    saved = torch.load(path, weights_only=True)
    damage(saved, how)
    torch.save(saved, path)
    with pytest.raises(InputError, match="checkpoint"):
        fit(task, ckpt_path=str(path))


def test_a_fit_does_not_go_on_with_other_measurements(
    make_task: MakeTask, fit: Fit, tiny: TinyGenerator, mask: Mask, truth: Tensor, tmp_path: Path
) -> None:
    """Under the same ids; also not with another mask, seed, schedule or generator."""
    path = tmp_path / "at.ckpt"

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 6:
                trainer.save_checkpoint(path)

    fit(make_task(SHORT, (0, 1), batch_size=2), callbacks=[Save()])
    one, other = mask.select([0, 1]), mask.select([2, 3])
    ids = list(IDS[:2])

    def task(generator: TinyGenerator, operator: Mask, image: Tensor, **more: Any) -> InverseTask:
        keys: dict[str, Any] = {"schedule": SHORT, "ids": ids, "batch_size": 2, **more}
        return InverseTask(generator, operator, operator(image), **keys)

    longer = Schedule(stages=(SHORT.stages[0], Stage(split=1, steps=4, lr=0.2)))
    for changed, says in (
        (task(tiny, one, truth[2:]), "measurements of ann, measurements of bob"),
        (task(tiny, other, truth[:2]), "operator of ann"),
        (task(tiny, one, truth[:2], seed=3), "seed"),
        (task(tiny, one, truth[:2], schedule=longer), r"schedule\.stages\.1\.lr"),
        (task(TinyGenerator(5), one, truth[:2]), "generator"),
    ):
        with pytest.raises(InputError, match=f"different are: .*{says}"):
            fit(changed, ckpt_path=str(path))
    assert set(fit(task(tiny, one, truth[:2]), ckpt_path=str(path)).results) == set(ids)
