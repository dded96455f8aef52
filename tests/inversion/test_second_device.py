"""The engine on a second device: nothing is left behind on the first, and no step waits for a value.

The device is ``meta``, which computes shapes only, made to answer when it is asked for a value, and to count it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ilo_pl import InverseTask, Mask, Radii, Reencode, Schedule, Sphere, Stage, TinyGenerator
from ilo_pl.inversion import consistency, l1_ball
from ilo_pl.inversion.stage import Engine, SearchStage
from ilo_pl.inversion.walk import Walk
from ilo_pl.operators import (
    Convolution,
    ForwardOperator,
    Grey,
    Identity,
    PartialCirculant,
    Separable,
    base,
    compose,
)

SHAPE = (3, 32, 32)
IDS = ("ann", "bob")
META = torch.device("meta")
OPERATORS: dict[str, Callable[[], ForwardOperator]] = {
    "mask": lambda: Mask.random(SHAPE, 0.5, 0, IDS),
    "bicubic": lambda: Separable.bicubic(SHAPE, 4),
    "blur": lambda: Separable.gaussian_blur(SHAPE, 2.0),
    "motion blur": lambda: Convolution.motion_blur(SHAPE, 5.0, 30.0),
    "circulant": lambda: PartialCirculant(SHAPE, 300, 0),
    "grey": lambda: Grey(SHAPE),
    "identity": lambda: Identity(SHAPE),
    "composition": lambda: compose(
        [Separable.gaussian_blur(SHAPE, 1.0), Mask.random(SHAPE, 0.5, 0, IDS)]
    ),
}
BALLS = Radii(hidden=0.1, latents=0.1, noises=0.1)
SCHEDULES = {
    "ilo": Schedule(
        stages=(
            Stage(split=0, steps=2, free_noises=2),
            Stage(
                split=2,
                steps=2,
                rounds=2,
                free_noises=4,
                radii=BALLS,
                reencode=Reencode(steps=2),
                sna=5.0,
            ),
            Stage(split=3, steps=1, free_noises=4, radii=BALLS),
            Stage(split=3, steps=2, free_noises=4, solver="proximal"),
        ),
        validation=0.2,
        result="best",
    ),
    "pulse": Schedule(
        stages=(
            Stage(
                split=0,
                steps=2,
                sphere=Sphere(latents=True, noises=True),
                losses={"mse": 1.0, "geocross": 0.1},
            ),
        )
    ),
    "official": Schedule(
        stages=tuple(
            Stage(split=k, steps=2, sphere=Sphere(latents=True, noises=True, radius="start"))
            for k in (0, 1)
        ),
        noise_start="random",
        hand_over="last",
        carry_skip=False,
        judge="mse",
    ),
}


class Asked(TorchDispatchMode):
    """Answers when values of the device are asked for, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        there = bool(args) and isinstance(args[0], Tensor) and args[0].device == META
        if there and func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
            return True if args[0].dtype == torch.bool else 1.0
        if there and func is torch.ops.aten._to_copy.default:
            where = kwargs.get("device")
            if where is not None and torch.device(where).type == "cpu":
                self.count += 1
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


def take_steps(stage: SearchStage, asked: Asked) -> None:
    """Take a stage's steps; none of them may ask for a value."""
    configured: Any = stage.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step in range(stage.spec.steps):
        before = asked.count
        optimizer.zero_grad()
        stage.training_step(None, step).backward()  # type: ignore[no-untyped-call]
        stage.isolate()
        optimizer.step()
        stage.settle()
        scheduler.step()
        assert asked.count == before, "a step waited for a value"


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("method", SCHEDULES)
def test_two_batches_and_resumes_on_a_second_device(name: str, method: str) -> None:
    operator = OPERATORS[name]()
    generator = TinyGenerator(0)
    measurements = torch.zeros(2, *operator.measurement_shape)
    task = InverseTask(
        generator, operator, measurements, schedule=SCHEDULES[method], ids=IDS, batch_size=1
    )
    generator.to(META)
    results = []
    # Here conjugate gradients, which are not asked whether they have arrived, would take them all.
    few = (patch.object(module, "ITERATIONS", 3) for module in (consistency, base))
    with Asked() as asked, next(few), next(few):
        for unit in task.units:
            batch = task.source.load(unit).to(META)
            walk = Walk(task, batch, Engine(generator, "v"))
            while True:
                take_steps(walk.stage, asked)
                # From its checkpoint, with measurements that are read anew.
                state = walk.state()
                tensors = {n: v.cpu() for n, v in walk.stage.state_dict().items()}
                batch = task.source.load(unit).to(META)
                resumed = Walk(task, batch, Engine(generator, "v"))
                resumed.restore(state, tensors)
                assert {v.device for v in resumed.stage.state_dict().values()} == {META}
                assert resumed.phase == walk.phase
                walk = resumed
                if not walk.advance():
                    break
            results += list(walk.results())
    assert [r.id for r in results] == list(IDS)
    assert {r.image.device.type for r in results} == {"cpu"}


# Kernels of a step outside generator, loss, backward and Adam: where rows are sorted whole, and where they are longer.
# Logging the loss and the step adds six.
KERNELS_SORTED, KERNELS_LONG = 63, 94


class Kernels(TorchDispatchMode):
    """Counts what computes or copies on the device; views do neither, and a number of Python stays on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        views = func.is_view or func.name() in (
            "aten::_unsafe_view",
            "aten::empty_like",
            "aten::scalar_tensor",
            "aten::empty.memory_format",
            "aten::detach",
        )
        self.count += not views
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("longest", "kernels"), [(2**16, KERNELS_SORTED), (2**8, KERNELS_LONG)])
def test_a_step_costs_few_kernels_beside_the_generator(longest: int, kernels: int) -> None:
    """With rows that are sorted and longer ones. Adam is not counted: one kernel on CUDA, a loop on ``meta``."""
    generator = TinyGenerator(0).to(META)
    spec = Stage(split=2, steps=2, free_noises=4, radii=Radii(hidden=0.1, latents=0.1))
    schedule = Schedule(stages=(Stage(split=0, steps=0), spec))
    task = InverseTask(
        generator, Identity(SHAPE), torch.zeros(2, *SHAPE), schedule=schedule, ids=IDS
    )
    walk = Walk(task, task.source.load([0, 1]).to(META), Engine(generator, "v"))
    with Asked():
        walk.advance()
    stage = walk.stage
    optimizer: Any = stage.configure_optimizers()["optimizer"]
    counts = []
    with patch.object(l1_ball, "SORTED", longest):
        for step in range(2):  # what is made once for all steps is made in the first
            selector, total = stage.objective(step)
            with Kernels() as remembering:
                loss = stage.guard.total(selector, total)
                stage._remember(stage.guard.trusted(selector.detach()))
            loss.backward()  # type: ignore[no-untyped-call]
            with Kernels() as isolating:
                stage.isolate()
            optimizer.step()
            with Kernels() as settling:
                stage.settle()
            counts.append(remembering.count + isolating.count + settling.count)
    assert counts[1] == kernels


def test_a_read_would_be_seen() -> None:
    with Asked() as asked:
        x = torch.ones(3, device=META)
        assert bool((x > 0).all())
        assert x.sum().item() == 1.0
        assert x.cpu().device.type == "cpu"
    assert asked.count == 3
