"""Loss terms by the name that a stage's ``losses`` uses."""

from __future__ import annotations

from ilo_pl.losses.base import LossInputs, LossTerm
from ilo_pl.losses.classification import CrossEntropy
from ilo_pl.losses.fidelity import Cosine, DeadZone, MeasurementL1, MeasurementMSE
from ilo_pl.losses.latent import GeodesicCross, LatentPrior, LatentSpread
from ilo_pl.losses.perceptual import MeasurementLPIPS, SuperimposedLPIPS
from ilo_pl.losses.weighted import WeightedLoss

LOSSES: dict[str, type[LossTerm]] = {
    "mse": MeasurementMSE,
    "l1": MeasurementL1,
    "dead_zone": DeadZone,
    "cosine": Cosine,
    "lpips": MeasurementLPIPS,
    "lpips_superimposed": SuperimposedLPIPS,
    "cross_entropy": CrossEntropy,
    "geocross": GeodesicCross,
    "latent_prior": LatentPrior,
    "latent_spread": LatentSpread,
}

__all__ = [
    "LOSSES",
    "Cosine",
    "CrossEntropy",
    "DeadZone",
    "GeodesicCross",
    "LatentPrior",
    "LatentSpread",
    "LossInputs",
    "LossTerm",
    "MeasurementL1",
    "MeasurementLPIPS",
    "MeasurementMSE",
    "SuperimposedLPIPS",
    "WeightedLoss",
]
