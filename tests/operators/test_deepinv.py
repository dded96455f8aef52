"""The adapter against the real package."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ilo_pl import ILOInversion, InverseTask, LinearOperator, Schedule, Stage, TinyGenerator
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import Grey
from ilo_pl.operators.deepinv import deepinv_operator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    deepinv = pytest.importorskip("deepinv")

SHAPE = (3, 32, 32)
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make(name: str) -> Any:
    physics = deepinv.physics
    rng = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        # deepinv moves complex buffers, which torch warns about.
        warnings.simplefilter("ignore")
        return {
            "blur": lambda: physics.Blur(filter=draw(1, 1, 5, 3).abs(), padding="circular"),
            "mri": lambda: physics.MRI(mask=(draw(1, 1, 32, 32) > 0.3).float()),
            "fourier": lambda: physics.LinearPhysics(
                A=lambda x: torch.fft.fft2(x, norm="ortho")[:, :, :8],
                A_adjoint=lambda y: torch.fft.ifft2(
                    torch.nn.functional.pad(y, (0, 0, 0, 24)), norm="ortho"
                ),
            ),
            "tomography": lambda: physics.Tomography(angles=12, img_width=32, normalize=True),
            "phase": lambda: physics.RandomPhaseRetrieval(m=1500, img_size=(1, 32, 32), rng=rng),
        }[name]()


OPTIONS: dict[str, dict[str, Any]] = {
    "blur": {},
    "mri": {"to_input": "two_channels"},
    "fourier": {},
    "tomography": {"to_input": "grey"},
    "phase": {"to_input": "grey", "complex_input": True},
}
LINEAR = ["blur", "mri", "fourier", "tomography"]


@pytest.mark.parametrize("name", OPTIONS)
def test_values_are_those_of_the_physics(name: str) -> None:
    physics, x = make(name), draw(2, *SHAPE)
    operator = deepinv_operator(physics, SHAPE, **OPTIONS[name])
    grey = (x * LUMA).sum(1, keepdim=True)
    expected = {
        "blur": lambda: physics.A(x),
        "mri": lambda: physics.A(torch.cat([grey, 0 * grey], 1)),
        "fourier": lambda: torch.view_as_real(physics.A(x)),
        "tomography": lambda: physics.A(grey),
        "phase": lambda: physics.A(((grey + 1) / 2).to(torch.cfloat)),
    }[name]()
    measured = operator(x.requires_grad_())
    assert tuple(measured.shape[1:]) == operator.measurement_shape
    # The luma of (x + 1) / 2 is (luma + 1) / 2 up to rounding.
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-6)
    measured.square().sum().backward()
    assert x.grad is not None and bool(x.grad.any())
    assert isinstance(operator, LinearOperator) == (name in LINEAR)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoints(name: str) -> None:
    operator = deepinv_operator(make(name), SHAPE, **OPTIONS[name])
    assert isinstance(operator, LinearOperator)
    x, y = draw(2, *SHAPE), draw(2, *operator.measurement_shape, seed=1)
    measured = operator(x)
    left, right = (measured * y).double().sum(), (x * operator.adjoint(y)).double().sum()
    assert abs(float(left - right)) <= 1e-5 * float(measured.norm() * y.norm())


@pytest.mark.parametrize("name", ["tomography", "phase"])
def test_a_physics_is_inverted(
    tiny: TinyGenerator, fit: Callable[..., ILOInversion], name: str
) -> None:
    operator = deepinv_operator(make(name), SHAPE, **OPTIONS[name])
    truth = tiny(torch.randn(1, 16, generator=torch.Generator().manual_seed(3)))

    def error(steps: int) -> float:
        stages = (Stage(split=0, steps=steps, lr=0.1),)
        task = InverseTask(tiny, operator, operator(truth), schedule=Schedule(stages=stages))
        return fit(task).results["image0"].loss

    assert error(60) < 0.3 * error(1)


def test_ranges_and_conversions_are_explicit() -> None:
    physics, x = make("blur"), draw(2, *SHAPE)
    affine = deepinv_operator(physics, SHAPE, value_range="unit")
    torch.testing.assert_close(affine(x), physics.A((x + 1) / 2))
    assert not isinstance(affine, LinearOperator)
    own = deepinv_operator(physics, SHAPE, to_input=lambda x: x[:, :1] * x[:, 1:2])
    torch.testing.assert_close(own(x), physics.A(x[:, :1] * x[:, 1:2]))
    assert not isinstance(own, LinearOperator)
    linear = deepinv_operator(physics, SHAPE, to_input=Grey(SHAPE))
    torch.testing.assert_close(linear(x), physics.A((x * LUMA).sum(1, keepdim=True)))
    assert isinstance(linear, LinearOperator)


def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    physics = deepinv.physics
    wrong = physics.LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: y)
    stacked = physics.StackedPhysics([make("blur"), make("blur")])
    for given, options, says in (
        (torch.tanh, {}, "is no deepinv.physics.Physics"),
        (make("blur"), {"to_input": "gray"}, "Did you mean 'grey'"),
        (make("blur"), {"value_range": "0to1"}, "no value range '0to1'"),
        (make("tomography"), {"to_input": lambda x: x.flatten(1)}, "takes images"),
        (make("mri"), {}, "cannot measure images of shape"),
        (wrong, {}, "A_adjoint of LinearPhysics is not the adjoint"),
        (stacked, {}, "returns TensorList"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            deepinv_operator(given, SHAPE, **options)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(ConfigurationError, match=r"ilo_pl\[deepinv\]"):
        deepinv_operator(wrong, SHAPE)
