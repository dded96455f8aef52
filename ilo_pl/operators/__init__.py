"""Forward operators; those that a configuration can name are in :mod:`ilo_pl.operators.config`."""

from __future__ import annotations

from ilo_pl.operators.base import ForwardOperator, LinearOperator
from ilo_pl.operators.classifier import Classifier
from ilo_pl.operators.composition import Composition, NonlinearComposition, compose
from ilo_pl.operators.convolution import Convolution
from ilo_pl.operators.function import FunctionOperator
from ilo_pl.operators.mask import Mask
from ilo_pl.operators.pointwise import Grey, Identity
from ilo_pl.operators.random_projection import DenseGaussian, PartialCirculant
from ilo_pl.operators.separable import Separable

__all__ = [
    "Classifier",
    "Composition",
    "Convolution",
    "DenseGaussian",
    "ForwardOperator",
    "FunctionOperator",
    "Grey",
    "Identity",
    "LinearOperator",
    "Mask",
    "NonlinearComposition",
    "PartialCirculant",
    "Separable",
    "compose",
]
