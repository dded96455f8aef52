"""Lightning callbacks of a run; those that the engine itself needs are in :mod:`ilo_pl.inversion`."""

from __future__ import annotations

from ilo_pl.inversion.hooks import ResultCallback
from ilo_pl.inversion.stage_switch import StageSwitch

__all__ = ["ResultCallback", "StageSwitch"]
