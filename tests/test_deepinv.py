"""ILO in DeepInverse's place for reconstructors, with its physics, its noise and its evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ilo_pl import ILOInversion, InverseTask, Schedule, Stage, TinyGenerator
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.operators import Identity, Mask
from ilo_pl.operators.deepinv import deepinv_operator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    deepinv = pytest.importorskip("deepinv")
    from ilo_pl.deepinv import ILOReconstructor, measured_ids

SHAPE = (3, 32, 32)
SCHEDULE = Schedule(
    stages=(Stage(split=0, steps=6, lr=0.1), Stage(split=2, steps=4, lr=0.05)), init="mean"
)


def make(name: str) -> Any:
    physics, rng = deepinv.physics, torch.Generator().manual_seed(0)
    noise = physics.GaussianNoise(0.05, rng=rng)
    return {
        "inpainting": lambda: physics.Inpainting(SHAPE, mask=0.5, rng=rng),
        "downsampling": lambda: physics.Downsampling(SHAPE, factor=4, filter="bicubic"),
        "blur": lambda: physics.Blur(filter=torch.ones(1, 1, 5, 3) / 15, padding="circular"),
        "denoising": lambda: physics.Denoising(noise),
    }[name]()


def search(
    fit: Callable[..., ILOInversion], tiny: TinyGenerator, y: Tensor, operator: Any, sigma: float
) -> Tensor:
    """Solve the problem without the reconstructor: its values and noise mapped to [-1, 1] by hand."""
    white = operator(torch.ones(1, *SHAPE))
    ids = measured_ids(y)
    task = InverseTask(
        tiny,
        operator,
        2 * y - white,
        schedule=SCHEDULE,
        ids=ids,
        batch_size=len(y),
        noise_sigma=2 * sigma,
    )
    found = fit(task, precision="32-true").results
    return torch.stack([(found[i].image + 1) / 2 for i in ids])


@pytest.mark.parametrize("name", ["inpainting", "downsampling", "blur", "denoising"])
def test_a_physics_is_solved_as_by_hand(
    fit: Callable[..., ILOInversion], tiny: TinyGenerator, truth: Tensor, name: str
) -> None:
    physics, x = make(name), (truth[:2] + 1) / 2
    y = physics(x)
    operator: Any = {
        "inpainting": lambda: Mask(physics.mask[:, :1].clone()),
        "denoising": lambda: Identity(SHAPE),
    }.get(name, lambda: deepinv_operator(physics, SHAPE))()
    sigma = 0.05 if name == "denoising" else 0.0
    model = ILOReconstructor(tiny, SCHEDULE, precision="32-true")
    with torch.no_grad():
        restored = model(y, physics)
    assert restored.shape == x.shape and not restored.requires_grad
    assert torch.equal(restored, search(fit, tiny, y, operator, sigma))
    if sigma == 0:
        # Measured by DeepInverse's own operator, it gives y: to a grey level where clipping has a say.
        assert float((physics.A(restored) - y).square().mean().sqrt()) < 1 / 255


def test_an_evaluation_of_deepinverse_runs_it(tiny: TinyGenerator, truth: Tensor) -> None:
    physics, x = make("inpainting"), (truth + 1) / 2
    pairs = [{"x": one, "y": y} for one, y in zip(x, physics(x), strict=True)]
    loader = DataLoader(pairs, batch_size=2)  # type: ignore[arg-type]
    model = ILOReconstructor(tiny, SCHEDULE, precision="32-true")
    options: dict[str, Any] = {
        "metrics": deepinv.loss.metric.PSNR(),
        "verbose": False,
        "non_blocking_transfers": False,
    }
    scores = deepinv.test(model, loader, physics, **options)
    restored = model(physics(x), physics)  # all four at a time
    mse = (restored.clamp(0, 1) - x).square().flatten(1).mean(1)
    assert scores["PSNR"] == pytest.approx(float((-10 * mse.log10()).mean()), abs=0.02)
    assert scores["PSNR"] > scores["PSNR no learning"] + 3


def test_each_image_has_its_mask_its_filter_and_its_noise(
    tiny: TinyGenerator, truth: Tensor
) -> None:
    x = (truth[:2] + 1) / 2
    model = ILOReconstructor(tiny, SCHEDULE, precision="32-true")
    physics = deepinv.physics
    filters = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    masks = (torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    noise = physics.GaussianNoise(torch.tensor([0.02, 0.2]))
    for whole, single in (
        (physics.Blur(filters, padding="circular"), lambda i: physics.Blur(filters[i : i + 1], padding="circular")),
        (physics.Inpainting(SHAPE, mask=masks.expand(2, 3, -1, -1)), lambda i: physics.Inpainting(SHAPE, mask=masks[i : i + 1].expand(1, 3, -1, -1))),
        (physics.Denoising(noise), lambda i: physics.Denoising(physics.GaussianNoise([0.02, 0.2][i]))),
    ):  # fmt: skip
        y = whole(x)
        together = model(y, whole)
        for i in range(2):
            alone = model(y[i : i + 1], single(i))
            # Rounding differs in a batch (docs/architecture.md, promise 1).
            torch.testing.assert_close(together[i : i + 1], alone, atol=2e-3, rtol=0)


def test_grey_and_nonlinear_physics(tiny: TinyGenerator, truth: Tensor) -> None:
    x = (truth[:1] + 1) / 2
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    tomography = deepinv.physics.Tomography(angles=40, img_width=32, normalize=True)
    found = ILOReconstructor(tiny, SCHEDULE, to_input="grey")(tomography.A(grey), tomography)
    assert found.shape == grey.shape
    assert float((found - grey).square().mean()) < float((grey - grey.mean()).square().mean())
    squared = deepinv.physics.Physics(A=lambda u: u.square())
    schedule = Schedule(stages=(Stage(split=0, steps=60, lr=0.1),))
    seen = ILOReconstructor(tiny, schedule)(squared.A(x), squared)
    assert float((seen.square() - x.square()).square().mean()) < 0.3 * float(x.square().var())


def test_what_cannot_be_used_is_refused(tiny: TinyGenerator, truth: Tensor) -> None:
    physics, x = make("blur"), (truth[:2] + 1) / 2
    with pytest.raises(ConfigurationError, match="no method 'lio'"):
        ILOReconstructor(tiny, "lio")
    with pytest.raises(ConfigurationError, match="Did you mean 'grey'"):
        ILOReconstructor(tiny, to_input="gray")  # type: ignore[arg-type]
    model = ILOReconstructor(tiny, SCHEDULE)
    with pytest.raises(ConfigurationError, match="no option 'x_gt'"):
        model(physics(x), physics, x_gt=x)
    with pytest.raises(InputError, match="shape"):
        model(physics(x)[..., :-1], physics)
    with pytest.raises(InputError, match="3 levels"):
        model(x, deepinv.physics.Denoising(deepinv.physics.GaussianNoise(torch.rand(3))))
    with pytest.raises(ConfigurationError, match=r"no deepinv\.physics\.Physics"):
        model(x, torch.tanh)
