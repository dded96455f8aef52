"""Where measurements come from, batch by batch."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import InputError
from ilo_pl.inversion.arguments import as_ids, as_measurements, check_scale
from ilo_pl.operators.base import ForwardOperator


@dataclass(frozen=True)
class Batch:
    """Measurements of some images.

    Args:
        ids: one id an image.
        measurements: ``(B, ...)``.
        operator: the forward operator of just these images.
    """

    ids: tuple[str, ...]
    measurements: Tensor
    operator: ForwardOperator

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the operator, which a source may share, stays where it is."""
        return Batch(self.ids, self.measurements.to(device), self.operator.on(device))


class MeasurementSource(abc.ABC):
    """Where measurements come from, image by image: memory, a folder, a simulation.

    Attributes:
        ids: ids of all images, unique, in order.
    """

    ids: tuple[str, ...]

    @abc.abstractmethod
    def load(self, indices: Sequence[int]) -> Batch:
        """Return the measurements of some images."""


class InMemory(MeasurementSource):
    """Measurements that are at hand as one tensor.

    Args:
        operator: the forward operator; bound to as many images as there are measurements, or to none.
        measurements: ``(B, *operator.measurement_shape)``, a tensor or a NumPy array; floating point, in the
            units of the operator, for which pictures are in [-1, 1].
        ids: ids of the images; ``image0``, ``image1``, ... by default.

    Raises:
        InputError: types, shapes or counts do not fit, or a measurement is not finite or far too large.
    """

    def __init__(
        self,
        operator: ForwardOperator,
        measurements: Tensor | np.ndarray,
        ids: Sequence[str] | None = None,
    ) -> None:
        measurements = as_measurements(measurements, operator.measurement_shape)
        count = len(measurements)
        self.ids = as_ids(ids, count)
        if operator.count not in (None, count):
            raise InputError(
                f"The operator is made for {operator.count} images and there are {count} measurements."
            )
        for image_id, values in zip(self.ids, measurements, strict=True):
            check_finite(image_id, values)
        check_scale(operator, measurements, self.ids)
        self._operator = operator
        self._measurements = measurements.detach().float()

    def load(self, indices: Sequence[int]) -> Batch:
        """Return the measurements of some images."""
        return Batch(
            tuple(self.ids[i] for i in indices),
            self._measurements[list(indices)],
            self._operator.select(indices),
        )


def check_finite(image_id: str, values: Tensor) -> None:
    """Raise :class:`InputError` when the measurements of an image hold NaN or infinity."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"The measurements of {image_id!r} hold {bad} values that are NaN or infinite, "
            f"out of {values.numel()}.",
            hint="Mark missing values in a mask; measurements must be finite numbers.",
        )
