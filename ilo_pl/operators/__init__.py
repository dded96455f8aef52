"""Forward operators."""

from __future__ import annotations

from ilo_pl.operators.base import ForwardOperator, LinearOperator
from ilo_pl.operators.mask import Mask

OPERATORS: dict[str, type[ForwardOperator]] = {"mask": Mask}

__all__ = ["OPERATORS", "ForwardOperator", "LinearOperator", "Mask"]
