"""An inverse problem, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from torch import Tensor

from ilo_pl.denoisers import DENOISERS
from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.generators.point import Point
from ilo_pl.inversion.arguments import (
    as_operator,
    check_batch_size,
    check_generator,
    check_schedule,
)
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.source import InMemory, MeasurementSource
from ilo_pl.inversion.stage_spec import Stage
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.losses import LOSSES, WeightedLoss
from ilo_pl.operators.base import ForwardOperator, LinearOperator

Start = Callable[[Sequence[str]], Point]


class InverseTask:
    """Measurements y = A(x) of images x that a generator is to explain.

    Ground truth has no place here: nothing in the engine can look at it.

    Args:
        generator: the frozen generator. Its weights are taken out of differentiation.
        operator: the forward operator A, or ``None`` when ``measurements`` is a source. A differentiable
            function or a module becomes a :class:`~ilo_pl.operators.FunctionOperator`.
        measurements: ``(B, *operator.measurement_shape)`` as a tensor or a NumPy array, pictures in
            [-1, 1]; or a :class:`MeasurementSource`.
        schedule: what to search, for how long and how far.
        ids: ids of the images; results are named by them and random numbers keyed by them.
        seed: seed of every random draw.
        batch_size: how many images are inverted at a time.
        start: returns where the search of some images begins, given their ids: a point with a batch of
            as many, at the first stage's split or before it, in the schedule's latent space. By default
            the search begins from a latent, as the schedule's ``init`` says.
        noise_sigma: standard deviation of the measurements' Gaussian noise, in their units (on
            [-1, 1] for pictures); ``None``: there is some, and it is not Gaussian noise of known strength.
        consistency: whether what is returned is moved to the nearest image whose measurements are y (with noise:
            towards it, by how much that noise explains). ``"auto"``: for linear operators whose measurements
            have no noise. ``False`` returns the picture as it was found.
        grain: whether holes of a mask take on the grain of the photograph around them, where results are consistent
            with measurements without noise.

    Raises:
        InputError: measurements, operator and generator do not fit each other.
        ConfigurationError: the schedule asks for what the generator does not have.
    """

    def __init__(  # noqa: PLR0913  # each names a part of the problem
        self,
        generator: SplitGenerator,
        operator: ForwardOperator | Callable[[Tensor], Tensor] | None,
        measurements: Tensor | np.ndarray | MeasurementSource,
        *,
        schedule: Schedule,
        ids: Sequence[str] | None = None,
        seed: int = 0,
        batch_size: int = 1,
        start: Start | None = None,
        noise_sigma: float | None = 0.0,
        consistency: bool | Literal["auto"] = "auto",
        grain: bool = True,
    ) -> None:
        check_generator(generator)
        check_schedule(schedule)
        check_batch_size(batch_size)
        schedule = schedule.resolve(generator, started=start is not None)
        if noise_sigma is not None and not 0 <= noise_sigma < math.inf:
            raise ConfigurationError(
                f"noise_sigma = {noise_sigma}; a standard deviation is a finite number from 0 on."
            )
        if isinstance(measurements, MeasurementSource):
            self.source = measurements
        else:
            self.source = InMemory(as_operator(operator, generator), measurements, ids)
        generator.freeze()
        self.generator = generator
        self.schedule = schedule
        self.seed = seed
        self.batch_size = batch_size
        self.start = start
        self.noise_sigma = noise_sigma
        operator = self._first_operator()
        self.linear = isinstance(operator, LinearOperator)
        if not self.linear or noise_sigma is None:
            self.schedule = schedule.without_deviation()
        self.consistent = self._wanted(consistency)
        self.grain = grain and self.consistent and noise_sigma == 0
        self._check_losses(operator)

    def _wanted(self, consistency: bool | Literal["auto"]) -> bool:
        """Return whether results are moved to their measurements."""
        known = self.linear and self.noise_sigma is not None
        if consistency is True and not known:
            raise ConfigurationError(
                "consistency = true needs a linear operator, and noise that is Gaussian and of known strength.",
                hint="Leave it at auto.",
            )
        return known and self.noise_sigma == 0 if consistency == "auto" else consistency

    def _check_losses(self, operator: ForwardOperator) -> None:
        """Refuse losses that cannot judge these measurements, denoisers that are not there, noise of unknown size."""
        for index, stage in enumerate(self.schedule.stages):
            if stage.solver == "proximal":
                DENOISERS[stage.proximal.denoiser]()  # a package may be missing
            if stage.solver == "sampling":
                self._check_likelihood(operator)
            WeightedLoss(stage.losses, LOSSES).check(operator)
            if stage.sna == "measured" and not self.noise_sigma:
                raise ConfigurationError(
                    f"Stage {index + 1} adds noise as strong as the measurements' (sna = 'measured'), "
                    "and their noise is not known.",
                    hint="Name it (the noise of the task), give sna a number, or set sna=0.",
                )

    def _check_likelihood(self, operator: ForwardOperator) -> None:
        """Refuse to sample where measurements are not A x plus Gaussian noise of known strength."""
        if self.noise_sigma is None:
            raise ConfigurationError(
                "Samples need measurements whose noise is Gaussian and of known strength, and this is not.",
                hint="Search one answer instead, with method=ilo.",
            )
        WeightedLoss({"mse": 1.0}, LOSSES).check(operator)

    def _first_operator(self) -> ForwardOperator:
        """Return the operator of the first image that can be used; others are reported when they are due."""
        first: InputError | None = None
        for index in range(len(self.source.ids)):
            try:
                return self.source.load([index]).operator
            except InputError as error:
                first = first or error
        assert first is not None
        raise first

    def noise_of(self, stage: Stage) -> float:
        """Return the standard deviation of a stage's noise addition, in units of measurements."""
        return (self.noise_sigma or 0.0) if stage.sna == "measured" else stage.sna / GREY_LEVELS

    @cached_property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the images of each unit: the batches that go through all stages together."""
        indices = range(len(self.source.ids))
        return tuple(
            tuple(indices[i : i + self.batch_size]) for i in range(0, len(indices), self.batch_size)
        )
