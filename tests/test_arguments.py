"""What users of Python hand to a task by mistake: converted, or refused with the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ilo_pl import InverseTask, Schedule, Stage, TinyGenerator
from ilo_pl.errors import IloError
from ilo_pl.operators import (
    Convolution,
    FunctionOperator,
    Grey,
    Identity,
    LinearOperator,
    Mask,
    PartialCirculant,
    Separable,
)

SHAPE = (3, 32, 32)
STAGE = Stage(split=0, steps=1)
SCHEDULE = Schedule(stages=(STAGE,))


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def make(tiny: TinyGenerator, y: Any, operator: Any = None, **options: Any) -> InverseTask:
    operator = Identity(SHAPE) if operator is None else operator
    return InverseTask(tiny, operator, y, **{"schedule": SCHEDULE, **options})


def test_numpy_arrays_are_measurements(tiny: TinyGenerator, pictures: Tensor) -> None:
    for array in (pictures.numpy(), pictures.double().numpy(), pictures.numpy()[::-1]):
        batch = make(tiny, array).source.load([0, 1])
        assert torch.equal(batch.measurements, torch.tensor(array.copy()).float())


@pytest.mark.parametrize("function", [lambda x: x[:, :1] ** 3, nn.Conv2d(3, 2, 3), torch.tanh])
def test_functions_and_modules_become_operators(
    tiny: TinyGenerator, pictures: Tensor, function: Callable[[Tensor], Tensor]
) -> None:
    y = function(pictures).detach()
    operator = make(tiny, y, function).source.load([0]).operator
    assert isinstance(operator, FunctionOperator)
    assert torch.equal(operator(pictures), y)


class Fake:
    """Somebody else's object."""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": list}, r"of type list(.|\n)*torch\.stack"),
        ({"y": lambda y: y.numpy().astype(object)}, "of type ndarray"),
        ({"y": lambda y: ((y + 1) * 127.5).byte()}, r"are uint8(.|\n)*/ 127\.5 - 1"),
        ({"y": lambda y: ((y + 1) * 127.5).long().numpy()}, "are int64"),
        ({"y": lambda y: y > 0}, "are bool"),
        ({"y": lambda y: torch.complex(y, y)}, r"complex(.|\n)*view_as_real"),
        ({"y": lambda y: (y + 1) * 127.5}, r"'image0' go up to 25[45]\.*(.|\n)*/ 127\.5 - 1"),
        ({"y": lambda y: y[0]}, r"measurements\[None\]"),
        ({"y": lambda y: y.permute(0, 2, 3, 1)}, r"measurements\.permute\(0, 3, 1, 2\)"),
        ({"y": lambda y: y[0].permute(1, 2, 0)}, r"measurements\[None\]\.permute"),
        ({"ids": [0, 1]}, r"id 0 is of type int(.|\n)*str\(i\)"),
        ({"ids": "ab"}, "ids is of type str, not a list"),
        ({"schedule": "csgm"}, r"load_method\('csgm'\)"),
        ({"schedule": [STAGE]}, r"of type list(.|\n)*Schedule\(stages="),
        ({"operator": Identity}, r"the class Identity(.|\n)*Identity\(generator"),
        ({"operator": torch.ones(32, 32)}, r"of type Tensor(.|\n)*Mask\(mask\)"),
        ({"operator": "mask"}, "of type str, not a ForwardOperator"),
        ({"operator": lambda x: x.detach()}, "cannot be differentiated"),
        ({"operator": nn.Dropout(1.0).train()}, None),
        ({"batch_size": "auto"}, "batch_size = 'auto'"),
        ({"batch_size": True}, "batch_size = True"),
    ],
)
def test_slips_are_explained(
    tiny: TinyGenerator, pictures: Tensor, change: dict[str, Any], says: str | None
) -> None:
    y = change.get("y", lambda y: y)(pictures)
    options = {key: value for key, value in change.items() if key != "y"}
    if says is None:  # in evaluation, dropout is the identity
        assert make(tiny, y, **options).source.ids == ("image0", "image1")
        return
    with pytest.raises(IloError, match=says):
        make(tiny, y, **options)


def test_generators_are_such_and_of_float32(pictures: Tensor) -> None:
    for change in (lambda g: g.half(), lambda g: g.double(), lambda g: g.bfloat16()):
        with pytest.raises(IloError, match=r"generator\.float\(\)"):
            make(change(TinyGenerator()), pictures)
    make(TinyGenerator().half().float(), pictures)
    for other in (nn.Linear(2, 2), "tiny", Fake(), TinyGenerator):
        with pytest.raises(IloError, match="not a SplitGenerator"):
            make(other, pictures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "operator",
    [
        Grey(SHAPE),
        Mask.random(SHAPE, 0.1, 0, ["a", "b"]),
        Separable.bicubic(SHAPE, 4),
        Separable.gaussian_blur(SHAPE, 3.0),
        Convolution.motion_blur(SHAPE, 9.0, 20.0),
        PartialCirculant(SHAPE, 300, 0),
    ],
)
def test_grey_levels_are_told_from_noise(
    tiny: TinyGenerator, pictures: Tensor, operator: LinearOperator
) -> None:
    y = operator(pictures)
    noisy = y + 2 * torch.randn(
        y.shape, generator=torch.Generator().manual_seed(1)
    )  # 255 grey levels
    make(tiny, noisy, operator)
    with pytest.raises(IloError, match="images in \\[-1, 1\\] give about"):
        make(tiny, operator((pictures + 1) * 127.5), operator)
