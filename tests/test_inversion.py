"""The module inside Lightning: what it brings, what it refuses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from ilo_pl import (
    ILOInversion,
    InverseTask,
    Mask,
    Reencode,
    Schedule,
    Sphere,
    Stage,
    StageSwitch,
    TinyGenerator,
)
from ilo_pl.errors import ConfigurationError, InputError, TrainerError
from ilo_pl.inversion.compilation import CompileMode
from tests.conftest import images

SHORT = Schedule(stages=(Stage(split=0, steps=3), Stage(split=2, steps=2)))
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def test_a_plain_trainer_is_enough(
    make_task: Callable[..., InverseTask], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    inversion = ILOInversion(make_task(SHORT, batch_size=3))
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path)
    trainer.fit(inversion)
    assert trainer.global_step == 2 * 5
    assert set(inversion.results) == {"ann", "bob", "cyd", "dee"}
    assert not [w for w in recwarn if "max_epochs" in str(w.message)]
    # Only what is searched is saved: no weights of the generator.
    saved = next(tmp_path.glob("**/*.ckpt"))
    names = torch.load(saved, weights_only=True)["state_dict"]
    assert names
    assert all(name.startswith("stage.") for name in names)


def test_stage_parameters_are_the_variables(
    make_task: Callable[..., InverseTask], fit: Any
) -> None:
    stage = fit(make_task(SHORT, (0,))).stage
    assert isinstance(stage, pl.LightningModule)
    assert {n: tuple(p.shape) for n, p in stage.named_parameters()} == {
        "latents": (1, 2, 16),
        "hidden.features": (1, 8, 8, 8),
        "hidden.rgb": (1, 3, 8, 8),
        "noises.2": (1, 1, 16, 16),
        "noises.3": (1, 1, 32, 32),
    }


def test_noises_become_free_gradually(make_task: Callable[..., InverseTask], fit: Any) -> None:
    schedule = Schedule(
        stages=[Stage(split=k, steps=1, free_noises=n) for k, n in ((0, 1), (0, 2), (1, 4))]
    )
    free: list[list[int]] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            free.append(sorted(int(i) for i in pl_module.stage.noises))

    fit(make_task(schedule, (0,)), callbacks=[Watch()])
    assert free == [[0], [0, 1], [1, 2, 3]]


def test_a_users_own_switch_is_not_doubled(make_task: Callable[..., InverseTask], fit: Any) -> None:
    plain, own = (fit(make_task(SHORT), callbacks=c) for c in ([], [StageSwitch()]))
    assert torch.equal(images(plain), images(own))


def test_compiled_and_eager_agree(make_task: Callable[..., InverseTask]) -> None:
    results = []
    modes: tuple[CompileMode, ...] = (False, True, "max-autotune")
    for mode in modes:
        inversion = ILOInversion(make_task(SHORT, (0, 1), batch_size=2), compile=mode)
        trainer = pl.Trainer(logger=False, enable_checkpointing=False, **QUIET)
        trainer.fit(inversion)
        results.append(images(inversion))
    for compiled in results[1:]:
        torch.testing.assert_close(compiled, results[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches = 2"),
        ({"gradient_clip_val": 1.0}, "gradient_clip_val"),
        ({"limit_train_batches": 2}, "limit_train_batches"),
        ({"overfit_batches": 1}, "overfit_batches"),
        ({"strategy": "ddp", "devices": 2}, "DDPStrategy would average"),
    ],
)
def test_trainer_settings_that_would_corrupt_results_are_refused(
    make_task: Callable[..., InverseTask], options: dict[str, Any], says: str, monkeypatch: Any
) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, **QUIET, **options)
    # The check comes before any process is launched.
    monkeypatch.setattr(trainer.strategy, "_launcher", None, raising=False)
    with pytest.raises(TrainerError, match=says):
        trainer.fit(ILOInversion(make_task(SHORT)))


def test_a_second_fit_with_the_same_trainer_is_refused(
    make_task: Callable[..., InverseTask],
) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(ILOInversion(make_task(SHORT, (0,))))
    with pytest.raises(TrainerError, match="new Trainer"):
        trainer.fit(ILOInversion(make_task(SHORT, (0,))))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda g, m, y: InverseTask(g, m, y[:, :, :-1], schedule=SHORT), InputError, "have shape"),
        (lambda g, m, y: InverseTask(g, m, y[:2], schedule=SHORT), InputError, "made for 4 images"),
        (lambda g, m, y: InverseTask(g, m, y * torch.nan, schedule=SHORT), InputError, "NaN"),
        (
            lambda g, m, y: InverseTask(g, m, y, schedule=SHORT, ids=list("aabc")),
            InputError,
            "4 different ids",
        ),
        (
            lambda g, m, y: InverseTask(g, m, y, schedule=SHORT, ids=["a", "b", "c", "../d"]),
            InputError,
            "file name",
        ),
        (
            lambda g, m, y: InverseTask(
                g, Mask(torch.ones(16, 16)), y[:, :, :16, :16], schedule=SHORT
            ),
            InputError,
            "TinyGenerator makes",
        ),
        (
            lambda g, m, y: InverseTask(g, m, y, schedule=SHORT, batch_size=0),
            ConfigurationError,
            "batch_size = 0",
        ),
        (
            lambda g, m, y: InverseTask(
                g, m, y, schedule=Schedule(stages=[Stage(split=0, steps=1, losses={"msee": 1})])
            ),
            ConfigurationError,
            "Did you mean 'mse'",
        ),
    ],
)
def test_tasks_that_cannot_work_are_refused(
    tiny: TinyGenerator, mask: Mask, truth: Tensor, make: Any, error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        make(tiny, mask, mask(truth))


@pytest.mark.parametrize("layout", ["shared", "per_slot"])
@pytest.mark.parametrize("space", ["z", "v", "w"])
def test_every_latent_space_explains_an_image_of_its_own(
    tiny: TinyGenerator, fit: Any, space: str, layout: str
) -> None:
    """The image comes from one z, so each space and layout holds a latent that makes it."""
    truth = tiny(torch.randn(1, 16, generator=torch.Generator().manual_seed(11)), "z").clamp(-1, 1)
    operator = Mask(torch.ones(32, 32))
    losses = []
    for steps in (1, 150):
        schedule = Schedule(
            stages=[Stage(split=0, steps=steps, free_noises=0)],
            latent_space=space,
            latent_layout=layout,
        )
        task = InverseTask(tiny, operator, operator(truth), schedule=schedule)
        losses.append(fit(task).results["image0"].loss)
    assert losses[1] < 0.05 * losses[0]


def test_latents_and_noises_stay_on_their_spheres(
    make_task: Callable[..., InverseTask], fit: Any
) -> None:
    sphere = Sphere(latents=True, noises=True)
    schedule = Schedule(stages=[Stage(split=0, steps=10, free_noises=3, sphere=sphere)])
    lengths: list[Tensor] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            point = pl_module.stage.point()
            lengths.append(point.latents.detach().norm(dim=-1).flatten() / 4)  # sqrt(16)
            for noise in point.noises.values():
                lengths.append(noise.detach().flatten(1).norm(dim=1) / noise[0].numel() ** 0.5)

    fit(make_task(schedule, batch_size=2), callbacks=[Watch()])
    measured = torch.cat(lengths)
    assert len(measured) == 2 * 10 * (2 * 4 + 2 * 3)
    assert torch.allclose(measured, torch.ones_like(measured), atol=1e-5)


def test_the_cost_of_reencoding_is_logged(
    make_task: Callable[..., InverseTask], fit: Any, tmp_path: Path
) -> None:
    schedule = Schedule(
        stages=(
            Stage(split=0, steps=2),
            Stage(split=1, steps=5, reencode=Reencode(steps=2)),
            Stage(split=2, steps=2),
        )
    )
    logger = CSVLogger(tmp_path)
    inversion = fit(make_task(schedule, (0,)), logger=logger, log_every_n_steps=1)
    rows = list(csv.DictReader(Path(logger.experiment.metrics_file_path).read_text().splitlines()))
    logged = [float(r["reencoding_rms/stage1"]) for r in rows if r.get("reencoding_rms/stage1")]
    cost = inversion.results["ann"].stages[1].reencoding
    assert logged == pytest.approx([float(cost)])
