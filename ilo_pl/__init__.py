"""Invert generators with PyTorch Lightning: Intermediate Layer Optimization and its relatives.

    task = InverseTask(generator, operator, measurements, schedule=load_method("ilo"))
    inversion = ILOInversion(task)
    pl.Trainer(accelerator="auto").fit(inversion)
    inversion.results["image0"].image

Names are imported when they are first used, so ``import ilo_pl`` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilo_pl.callbacks.results import ResultCallback
    from ilo_pl.callbacks.stage_switch import StageSwitch
    from ilo_pl.config import load_method
    from ilo_pl.errors import IloError
    from ilo_pl.generators import MobileStyleGAN, SplitGenerator, TinyGenerator
    from ilo_pl.inversion import ILOInversion
    from ilo_pl.io import load_image
    from ilo_pl.latents import load_point
    from ilo_pl.operators import ForwardOperator, LinearOperator, Mask
    from ilo_pl.point import Point, render
    from ilo_pl.reconstruction import Reconstruction
    from ilo_pl.schedule import Radii, Reencode, Schedule, Sphere, Stage
    from ilo_pl.stage import ILOStage
    from ilo_pl.task import InverseTask, MeasurementSource

_HOME = {
    "ForwardOperator": "operators",
    "ILOInversion": "inversion",
    "ILOStage": "stage",
    "IloError": "errors",
    "InverseTask": "task",
    "LinearOperator": "operators",
    "Mask": "operators",
    "MeasurementSource": "task",
    "MobileStyleGAN": "generators",
    "Point": "point",
    "Radii": "schedule",
    "Reconstruction": "reconstruction",
    "Reencode": "schedule",
    "ResultCallback": "callbacks.results",
    "Schedule": "schedule",
    "Sphere": "schedule",
    "SplitGenerator": "generators",
    "Stage": "schedule",
    "StageSwitch": "callbacks.stage_switch",
    "TinyGenerator": "generators",
    "load_image": "io",
    "load_method": "config",
    "load_point": "latents",
    "render": "point",
}

__version__ = metadata.version("ilo_pl")
__all__ = [
    "ForwardOperator",
    "ILOInversion",
    "ILOStage",
    "IloError",
    "InverseTask",
    "LinearOperator",
    "Mask",
    "MeasurementSource",
    "MobileStyleGAN",
    "Point",
    "Radii",
    "Reconstruction",
    "Reencode",
    "ResultCallback",
    "Schedule",
    "Sphere",
    "SplitGenerator",
    "Stage",
    "StageSwitch",
    "TinyGenerator",
    "load_image",
    "load_method",
    "load_point",
    "render",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ilo_pl' has no attribute {name!r}")
    return getattr(import_module(f"ilo_pl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
