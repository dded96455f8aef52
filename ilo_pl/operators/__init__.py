"""Forward operators."""

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

OPERATORS: dict[str, type[ForwardOperator]] = {
    "mask": Mask,
    "separable": Separable,
    "convolution": Convolution,
    "circulant": PartialCirculant,
    "gaussian": DenseGaussian,
    "grey": Grey,
    "identity": Identity,
    "composition": Composition,
    "classifier": Classifier,
    "function": FunctionOperator,
}

__all__ = [
    "OPERATORS",
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
