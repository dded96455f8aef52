"""Invert generators with PyTorch Lightning: Intermediate Layer Optimization and its relatives.

    task = InverseTask(generator, operator, measurements, schedule=load_method("ilo"))
    inversion = ILOInversion(task)
    pl.Trainer(accelerator="auto").fit(inversion)
    inversion.results["image0"].image

Names are imported when they are first used, so ``import ilo_pl`` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilo_pl.config.compose import load_method
    from ilo_pl.errors import IloError
    from ilo_pl.generators import MobileStyleGAN, Resized, SplitGenerator, TinyGenerator
    from ilo_pl.generators.point import Point, render
    from ilo_pl.inversion.hooks import ResultCallback
    from ilo_pl.inversion.module import ILOInversion
    from ilo_pl.inversion.reconstruction import Reconstruction
    from ilo_pl.inversion.schedule import Schedule
    from ilo_pl.inversion.source import MeasurementSource
    from ilo_pl.inversion.stage import ILOStage
    from ilo_pl.inversion.stage_spec import LrScale, Radii, Reencode, Sphere, Stage, Tune
    from ilo_pl.inversion.stage_switch import StageSwitch
    from ilo_pl.inversion.task import InverseTask
    from ilo_pl.io.images import load_image
    from ilo_pl.operators import ForwardOperator, LinearOperator, Mask
    from ilo_pl.runs.inverter import Inverter
    from ilo_pl.runs.latents import load_point

_HOME = {
    "ForwardOperator": "operators",
    "ILOInversion": "inversion.module",
    "ILOStage": "inversion.stage",
    "IloError": "errors",
    "InverseTask": "inversion.task",
    "Inverter": "runs.inverter",
    "LinearOperator": "operators",
    "LrScale": "inversion.stage_spec",
    "Mask": "operators",
    "MeasurementSource": "inversion.source",
    "MobileStyleGAN": "generators",
    "Point": "generators.point",
    "Radii": "inversion.stage_spec",
    "Reconstruction": "inversion.reconstruction",
    "Reencode": "inversion.stage_spec",
    "Resized": "generators",
    "ResultCallback": "inversion.hooks",
    "Schedule": "inversion.schedule",
    "Sphere": "inversion.stage_spec",
    "SplitGenerator": "generators",
    "Stage": "inversion.stage_spec",
    "StageSwitch": "inversion.stage_switch",
    "TinyGenerator": "generators",
    "Tune": "inversion.stage_spec",
    "load_image": "io.images",
    "load_method": "config.compose",
    "load_point": "runs.latents",
    "render": "generators.point",
}

__all__ = [
    "ForwardOperator",
    "ILOInversion",
    "ILOStage",
    "IloError",
    "InverseTask",
    "Inverter",
    "LinearOperator",
    "LrScale",
    "Mask",
    "MeasurementSource",
    "MobileStyleGAN",
    "Point",
    "Radii",
    "Reconstruction",
    "Reencode",
    "Resized",
    "ResultCallback",
    "Schedule",
    "Sphere",
    "SplitGenerator",
    "Stage",
    "StageSwitch",
    "TinyGenerator",
    "Tune",
    "load_image",
    "load_method",
    "load_point",
    "render",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # takes longer than all else here

        return metadata.version("ilo_pl")
    if name not in _HOME:
        raise AttributeError(f"module 'ilo_pl' has no attribute {name!r}")
    return getattr(import_module(f"ilo_pl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
