"""One specification for each operator that a configuration can name: here operators are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar, final

import torch
from pydantic import Field
from torch import Tensor

from ilo_pl.errors import ConfigurationError, IloError
from ilo_pl.operators import (
    Classifier,
    Convolution,
    DenseGaussian,
    ForwardOperator,
    Grey,
    Identity,
    PartialCirculant,
    Separable,
    compose,
)
from ilo_pl.operators.classifier_models import make_classifier
from ilo_pl.operators.makers import (
    Fixed,
    ImageShape,
    OperatorConfig,
    OperatorMaker,
    Sequel,
)
from ilo_pl.operators.mask_config import MaskSpec
from ilo_pl.spec import Number, PathText, Whole, by_name

Built = TypeVar("Built", OperatorMaker, ForwardOperator)


@final
class BicubicSpec(OperatorConfig):
    """Down-sampling by an integer ``factor``: bicubic with anti-aliasing."""

    task: ClassVar[str] = "super_resolution"
    name: Literal["bicubic"]
    factor: Annotated[Whole, Field(ge=1)]

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(Separable.bicubic(image_shape, self.factor), reduces=True)


@final
class BlurSpec(OperatorConfig):
    """Gaussian blur of standard deviation ``sigma``, in pixels."""

    task: ClassVar[str] = "deblurring"
    name: Literal["blur"]
    sigma: Number

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(Separable.gaussian_blur(image_shape, self.sigma))


@final
class MotionBlurSpec(OperatorConfig):
    """Blur along a line of ``length`` pixels, ``angle`` degrees counter-clockwise from the right."""

    task: ClassVar[str] = "deblurring"
    name: Literal["motion_blur"]
    length: Number
    angle: Number = 0.0

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(Convolution.motion_blur(image_shape, self.length, self.angle))


@final
class RandomProjectionSpec(OperatorConfig):
    """Compressed sensing: ``fraction`` of the number of scalars is how many measurements there are."""

    task: ClassVar[str] = "compressed_sensing"
    name: Literal["circulant", "gaussian"]
    fraction: Annotated[Number, Field(gt=0, le=1)]

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        count = max(1, round(self.fraction * torch.Size(image_shape).numel()))
        kind = PartialCirculant if self.name == "circulant" else DenseGaussian
        return Fixed(kind(image_shape, count, seed))


@final
class GreySpec(OperatorConfig):
    """Luma only."""

    task: ClassVar[str] = "colourisation"
    name: Literal["grey"]

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(Grey(image_shape))


@final
class IdentitySpec(OperatorConfig):
    """The image itself."""

    task: ClassVar[str] = "inversion"
    name: Literal["identity"]

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(Identity(image_shape))


@final
class ClassifierSpec(OperatorConfig):
    """What a classifier sees, and the class that it shall see.

    Args:
        model: ``efficientnet_lite0``, ``torchvision/NAME`` or ``robust/NAME``.
        weights: file of its weights, where it does not bring them.
        target: number or name of the wanted class.
    """

    task: ClassVar[str] = "ood_generation"
    name: Literal["classifier"]
    model: str
    weights: PathText | None = None
    target: Whole | str

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Fixed(self.classifier(image_shape))

    def classifier(self, image_shape: ImageShape) -> Classifier:
        """Load the classifier and make sure that it knows the class."""
        path = Path(self.weights) if self.weights else None
        classifier = make_classifier(self.model, path, image_shape)
        classifier.index(self.target)
        return classifier


PartSpec = Annotated[
    MaskSpec
    | BicubicSpec
    | BlurSpec
    | MotionBlurSpec
    | RandomProjectionSpec
    | GreySpec
    | IdentitySpec,
    Field(discriminator="name"),
]


@final
class CompositionSpec(OperatorConfig):
    """Operators one after the other.

    Args:
        parts: their specifications; the first one measures the image, each other one what the one
            before it measured.
    """

    task: ClassVar[str] = "deblurring"
    name: Literal["composition"]
    parts: tuple[PartSpec, ...]

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return Sequel(self._each(image_shape, lambda part, shape: part.maker(shape, seed)))

    def restore(
        self, image_shape: ImageShape, seed: int, masks: Iterator[Tensor]
    ) -> ForwardOperator:
        """Return the operator of measurements that were saved."""
        return compose(
            self._each(image_shape, lambda part, shape: part.restore(shape, seed, masks))
        )

    def _each(
        self, image_shape: ImageShape, build: Callable[[OperatorConfig, ImageShape], Built]
    ) -> list[Built]:
        """Build every part for the shape that the one before it measures."""
        if not self.parts:
            raise ConfigurationError(
                "operator.parts is empty; a composition needs at least one operator.",
                hint="For example operator.parts='[{name: blur, sigma: 3}, {name: mask, fraction: 0.3}]'.",
            )
        built: list[Built] = []
        shape: tuple[int, ...] = image_shape
        for i, part in enumerate(self.parts):
            if len(shape) != 3:
                raise ConfigurationError(
                    f"operator.parts.{i - 1} ({self.parts[i - 1].name}) measures a vector of {shape[0]} "
                    f"numbers; {part.name} takes a picture and cannot follow it.",
                    hint="Put it last.",
                )
            with _naming(i, part):
                built.append(build(part, (shape[0], shape[1], shape[2])))
            shape = built[-1].measurement_shape
        return built


@contextmanager
def _naming(i: int, part: PartSpec) -> Iterator[None]:
    """Say in errors which part of a composition they are about."""
    try:
        yield
    except IloError as error:
        what = f"operator.parts.{i} ({part.name}): {error.what}"
        raise type(error)(what, choices=error.choices, hint=error.hint) from None


# What is not in this union cannot be chosen; everything that lists operators reads it.
OperatorSpec = Annotated[PartSpec | CompositionSpec | ClassifierSpec, Field(discriminator="name")]
OPERATORS: dict[str, type[OperatorConfig]] = by_name(OperatorSpec)
