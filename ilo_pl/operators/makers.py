"""What every configured operator can do: be made for some images, or be restored from a file."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import ClassVar, final

from torch import Tensor

from ilo_pl.io.images import LoadedImage
from ilo_pl.operators import ForwardOperator
from ilo_pl.operators.composition import compose
from ilo_pl.spec import Spec

ImageShape = tuple[int, int, int]


class OperatorMaker(abc.ABC):
    """Makes the forward operator of some images."""

    @property
    @abc.abstractmethod
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one image's measurements."""

    @abc.abstractmethod
    def make(self, ids: Sequence[str], images: Sequence[LoadedImage]) -> ForwardOperator:
        """Return the operator bound to these images."""

    def fitting(self, size: tuple[int, int]) -> str:
        """Return ``key=value`` with which the measurements are as wide and high as a picture, if there is one."""
        return ""


@final
class Fixed(OperatorMaker):
    """The same operator for every image.

    Args:
        operator: that operator.
        reduces: whether it makes images smaller by its key ``factor``.
    """

    def __init__(self, operator: ForwardOperator, *, reduces: bool = False) -> None:
        self.operator = operator
        self._reduces = reduces

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """That of the operator."""
        return self.operator.measurement_shape

    def make(self, ids: Sequence[str], images: Sequence[LoadedImage]) -> ForwardOperator:
        """Return the operator."""
        return self.operator

    def fitting(self, size: tuple[int, int]) -> str:
        """Return the factor that makes images of this width and height, if there is one."""
        _, height, width = self.operator.image_shape
        factor = width // size[0]
        fits = factor > 0 and (size[0] * factor, size[1] * factor) == (width, height)
        return f"operator.factor={factor}" if self._reduces and fits else ""


class OperatorConfig(Spec, abc.ABC):
    """Which operator, with which parameters.

    Every specification has ``name``, a literal of what it is called in configurations.

    Attributes:
        task: a task that the operator suits.
    """

    task: ClassVar[str]

    @abc.abstractmethod
    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator.

        Args:
            image_shape: shape of the images that it takes.
            seed: seed of what it draws.

        Raises:
            ConfigurationError: the parameters do not suit the images.
        """

    def restore(
        self, image_shape: ImageShape, seed: int, masks: Iterator[Tensor]
    ) -> ForwardOperator:
        """Return the operator of measurements that were saved; it looks at no image.

        Args:
            image_shape: shape of the images that it takes.
            seed: seed of what it draws.
            masks: the masks that were saved, each ``(B, 1, H, W)``, in order.
        """
        return self.maker(image_shape, seed).make([], [])


@final
class Sequel(OperatorMaker):
    """Makes operators one after the other.

    Args:
        makers: what makes each of them.
    """

    def __init__(self, makers: Sequence[OperatorMaker]) -> None:
        self._makers = makers

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """That of the last operator."""
        return self._makers[-1].measurement_shape

    def make(self, ids: Sequence[str], images: Sequence[LoadedImage]) -> ForwardOperator:
        """Return the composition bound to these images."""
        return compose([maker.make(ids, images) for maker in self._makers])
