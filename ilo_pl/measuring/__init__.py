"""Operators from configurations: which one, with which parameters, bound to which images."""

from __future__ import annotations

from ilo_pl.measuring.base import OperatorConfig, OperatorMaker
from ilo_pl.measuring.specs import OperatorSpec

__all__ = ["OperatorConfig", "OperatorMaker", "OperatorSpec"]
