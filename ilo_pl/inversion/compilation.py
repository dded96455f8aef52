"""A faster way to run the frozen generator: compiled segments, channels last.

The generator is cut at the splits of the schedule and each segment is compiled once. A stage at any
split runs a suffix of the same segments, so a longer schedule compiles no more than a short one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Literal

import torch
from torch import Tensor

from ilo_pl.generators.base import SplitGenerator, State
from ilo_pl.inversion.task import InverseTask

CompileMode = bool | Literal["auto", "max-autotune"]

# Compilation takes 20 to 40 s on two cores and saves 0.9 s a step at 1024 x 1024; small images and short
# runs would not get it back.
AUTO_MIN_STEPS = 60
AUTO_MIN_PIXELS = 256 * 256

Segment = Callable[[State, Tensor, list[Tensor | None]], State]


class Synthesizer:
    """Runs the generator between two splits, compiled where that pays.

    Args:
        task: tells the generator, the splits at which stages start, and how long the run is.
        mode: ``True``, ``False``, ``"auto"`` (when the run is long enough to repay it), or
            ``"max-autotune"``: torch.compile's mode of that name, which tries kernels and, on CUDA,
            records graphs.

    Attributes:
        enabled: whether segments are compiled; becomes ``False`` with a warning when the machine has
            no compiler.
    """

    def __init__(self, task: InverseTask, mode: CompileMode) -> None:
        self._generator = task.generator
        self._fast: SplitGenerator | None = None
        self._segments: dict[int, Segment] = {}
        schedule = task.schedule
        last = task.generator.last
        self._cuts = sorted({stage.split for stage in schedule.stages} | {last})
        self._free_noises = max(stage.free_noises for stage in schedule.stages)
        steps = schedule.total_steps * len(task.units)
        pixels = task.generator.computed_pixels
        worth_it = steps >= AUTO_MIN_STEPS and pixels >= AUTO_MIN_PIXELS
        self.enabled = worth_it if mode == "auto" else bool(mode)
        self._mode = "max-autotune" if mode == "max-autotune" else None

    def __call__(
        self, state: State, styles: Tensor, noises: list[Tensor | None], start: int, stop: int
    ) -> State:
        """See :meth:`SplitGenerator.run`."""
        if not self.enabled:
            return self._generator.run(state, styles, noises, start, stop)
        first, splits = start, self._generator.splits
        for end in [cut for cut in self._cuts if start < cut <= stop]:
            slot0 = splits[first].first_slot - splits[start].first_slot
            slot1 = splits[end].first_slot - splits[start].first_slot
            noise0 = splits[first].first_noise - splits[start].first_noise
            noise1 = splits[end].first_noise - splits[start].first_noise
            state = self._run_segment(
                first, end, state, styles[:, slot0:slot1], noises[noise0:noise1]
            )
            first = end
        return state

    def _run_segment(
        self, start: int, stop: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]
    ) -> State:
        segment = self._segments.get(start)
        if segment is None:
            segment = self._segments[start] = self._compile(start, stop)
        inputs = (
            {name: _uniform(value) for name, value in state.items()},
            _uniform(styles),
            self._uniform_noises(start, len(styles), noises),
        )
        try:
            with warnings.catch_warnings():
                # Dynamo looks at the gradients of its inputs and then warns of its own look.
                warnings.filterwarnings(
                    "ignore", message="The .grad attribute of a Tensor that is not"
                )
                return segment(*inputs)
        except Exception as error:
            from torch._dynamo.exc import TorchDynamoException  # 1 s to import, and rarely needed

            if not isinstance(error, (TorchDynamoException, FileNotFoundError)):
                raise
            warnings.warn(
                "torch.compile failed, so the generator runs uncompiled, about three times slower. "
                f"Install a C++ compiler (gcc or clang), or pass compile=false. Cause: {error}",
                stacklevel=2,
            )
            self.enabled = False
            return self._generator.run(state, styles, noises, start, stop)

    def _compile(self, start: int, stop: int) -> Segment:
        if self._fast is None:
            # A copy, because the original renders the results and must stay as it was loaded.
            fast = copy.deepcopy(self._generator)
            self._fast = fast.to(memory_format=torch.channels_last)
        fast = self._fast

        def run(state: State, styles: Tensor, noises: list[Tensor | None]) -> State:
            return fast.run(state, styles, noises, start, stop)

        # Compiled code is kept with the code object, and only so many versions of it: with one for each
        # segment, segments do not use up each other's.
        code = run.__code__.replace(co_name=f"segment_{start}_{stop}")
        own = FunctionType(code, run.__globals__, code.co_name, None, run.__closure__)
        compiled: Segment = torch.compile(own, dynamic=False, mode=self._mode)
        return compiled

    def _uniform_noises(
        self, start: int, batch: int, noises: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Give every input that some stage frees the same form in all stages."""
        first = self._generator.splits[start].first_noise
        uniform: list[Tensor | None] = []
        for index, noise in enumerate(noises, start=first):
            if index >= self._free_noises:
                uniform.append(None)
            elif noise is None:
                own = self._generator.stored_noise(index).expand(batch, -1, -1, -1)
                uniform.append(_uniform(own.detach().requires_grad_()))
            else:
                uniform.append(_uniform(noise))
        return uniform


def _uniform(value: Tensor) -> Tensor:
    """Return a float32 copy of one memory layout that is not a parameter.

    A compiled function is specialised to its inputs' type, dtype, strides and need of a gradient;
    whatever differs between stages would compile it again.
    """
    if value.ndim == 4:
        return value.float().clone(memory_format=torch.channels_last)
    return value.float().clone(memory_format=torch.contiguous_format)
