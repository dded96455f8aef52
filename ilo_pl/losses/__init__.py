"""Loss terms by the name that a stage's ``losses`` uses."""

from __future__ import annotations

from collections.abc import Callable

from ilo_pl.losses.base import LossInputs, LossTerm, WeightedLoss
from ilo_pl.losses.fidelity import MeasurementMSE

LOSSES: dict[str, Callable[[], LossTerm]] = {"mse": MeasurementMSE}

__all__ = ["LOSSES", "LossInputs", "LossTerm", "MeasurementMSE", "WeightedLoss"]
