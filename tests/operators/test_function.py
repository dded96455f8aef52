from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ilo_pl import ILOInversion, InverseTask, Schedule, Stage, TinyGenerator
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import ForwardOperator, FunctionOperator, Grey, compose

SHAPE = (3, 32, 32)


def spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x)[:, 0, :4, :4]


def test_complex_measurements_become_pairs_with_the_same_squared_errors() -> None:
    operator = FunctionOperator(spectrum, SHAPE)
    assert operator.measurement_shape == (4, 4, 2)
    x = torch.randn(2, *SHAPE)
    assert torch.equal(torch.view_as_complex(operator(x).contiguous()), spectrum(x))
    assert float(operator(x).square().sum()) == pytest.approx(
        float(spectrum(x).abs().square().sum())
    )


def test_a_module_is_frozen_and_put_into_evaluation_mode() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Dropout(0.5))
    operator = FunctionOperator(module, SHAPE, (2, 30, 30))
    operator(torch.randn(4, *SHAPE, requires_grad=True)).sum().backward()
    assert all(p.grad is None for p in module.parameters())
    assert not any(m.training for m in module.modules())
    assert next(operator.double().buffers()).dtype == torch.float64


def test_a_nonlinear_function_is_inverted_behind_a_linear_operator(
    tiny: TinyGenerator, fit: Callable[..., ILOInversion]
) -> None:
    operator = compose([Grey(SHAPE), FunctionOperator(lambda x: torch.sigmoid(5 * x), (1, 32, 32))])
    assert not hasattr(operator, "adjoint")
    truth = tiny(torch.randn(1, 16, generator=torch.Generator().manual_seed(3)))

    def error(steps: int) -> float:
        schedule = Schedule(stages=(Stage(split=0, steps=steps, lr=0.1),))
        task = InverseTask(tiny, operator, operator(truth), schedule=schedule)
        image = fit(task).results["image0"].image
        return float((operator(image[None]) - operator(truth)).square().mean())

    assert error(60) < 0.2 * error(1)


class Stateful:
    calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


def failing(x: Tensor) -> Tensor:
    return x @ torch.ones(5, 5)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: x.detach(), "cannot be differentiated"),
        (torch.round, "gradient of round is zero"),
        (lambda x: (x - x).abs().sqrt(), "gradient .* is not finite"),
        (lambda x: x - x.mean(0), "when another one is in the batch"),
        (lambda x: x + torch.rand_like(x), "called again"),
        (Stateful(), "Stateful measures an image otherwise"),
        (lambda x: x.flatten(1).repeat(1, len(x)), "must not depend on the batch"),
        (lambda x: x.mean((1, 2, 3)), r"returns shape \(2,\)"),
        (lambda x: x[:1], r"returns shape \(1, 3, 32, 32\) for 2 images"),
        (lambda x: [x], "returns list"),
        (failing, r"failing cannot measure images of shape \(2, 3, 32, 32\): RuntimeError"),
    ],
)
def test_what_cannot_be_used_is_refused(function: Callable[[Tensor], Tensor], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        FunctionOperator(function, SHAPE)


def test_a_wrong_measurement_shape_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"measures \(3, 32, 32\), not \(3, 8, 8\)"):
        FunctionOperator(torch.tanh, SHAPE, (3, 8, 8))
    assert isinstance(FunctionOperator(torch.tanh, SHAPE, SHAPE), ForwardOperator)
