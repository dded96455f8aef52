"""The contract of forward operators: image -> measurements."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.operators.copies import Copies, copy_on, tensors_of
from ilo_pl.operators.correction import conjugate_gradients

_COPIES = Copies()
# Of conjugate gradients, where an operator has no closed form.
ITERATIONS = 100
TOLERANCE = 1e-5


class ForwardOperator(nn.Module, abc.ABC):
    """A differentiable map A from images to measurements, y = A(x).

    Tensors it needs are buffers. Those named in :attr:`per_image` have a leading dimension that is 1
    (the same for every image) or the number of images (one for each). Many batches share one operator,
    so nothing moves it in place: :meth:`on` returns it elsewhere.

    Attributes:
        image_shape: shape ``(C, H, W)`` of the images it takes.
    """

    per_image: ClassVar[tuple[str, ...]] = ()

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        # An operator without tensors of its own is somewhere too.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    @abc.abstractmethod
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one image's measurements."""

    @abc.abstractmethod
    def measure(self, images: Tensor) -> Tensor:
        """Measure images of the right shape."""

    def forward(self, images: Tensor) -> Tensor:
        """Measure images ``(B, C, H, W)`` in [-1, 1].

        Raises:
            InputError: the images are not of :attr:`image_shape`.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.image_shape:
            raise InputError(
                f"{type(self).__name__} takes images of shape (B, {', '.join(map(str, self.image_shape))}); "
                f"got {tuple(images.shape)}."
            )
        return self.measure(images)

    @property
    def pixelwise(self) -> bool:
        """Whether each measured pixel depends on the same pixel of the image alone."""
        return False

    def hide(self, measurements: Tensor) -> Tensor:
        """Return measurements ``(B, ...)`` with zeros where nothing is measured, as under a mask."""
        return measurements

    def observed(self) -> Tensor:
        """Return how many scalars are measured, float ``(1,)`` or one number per image ``(B,)``."""
        numel = torch.Size(self.measurement_shape).numel()
        return torch.full((1,), float(numel), device=self.device)

    def missing_share(self) -> Tensor:
        """Return the share of the measurements that is hidden, in [0, 1]: ``(1,)`` or one each ``(B,)``."""
        return 1 - self.observed() / torch.Size(self.measurement_shape).numel()

    def picture(self, measurements: Tensor) -> Tensor | None:
        """Return measurements as images ``(B, 3 or 4, H, W)`` in [-1, 1], or ``None`` if they are none.

        The base class shows measurements that have the shape of an RGB image.
        """
        shape = self.measurement_shape
        return measurements.clamp(-1, 1) if len(shape) == 3 and shape[0] == 3 else None

    @property
    def device(self) -> torch.device:
        """Where the operator is."""
        assert isinstance(self._place, Tensor)
        return self._place.device

    def on(self, device: torch.device) -> Self:
        """Return the operator on a device: itself if it is there, else a copy, kept for the next batch.

        Raises:
            ConfigurationError: what the operator is made of cannot be copied there.
        """
        device = torch.empty(0, device=device).device  # "cuda" is cuda:0
        if all(tensor.device == device for tensor in tensors_of(self)):
            return self
        return _COPIES.get(self, device, lambda: self._copy_on(device))

    def _copy_on(self, device: torch.device) -> Self:
        inner = [m for m in self.modules() if isinstance(m, ForwardOperator) and m is not self]
        try:
            return copy_on(self, device, {id(operator): operator.on(device) for operator in inner})
        except (TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigurationError(
                f"{type(self).__name__} cannot be copied to {device}: {error}.",
                hint=f"Move what it is made of to {device} before you make it.",
            ) from error

    @property
    def count(self) -> int | None:
        """Number of images this operator is bound to, or ``None`` when it takes any number."""
        sizes = {getattr(self, name).shape[0] for name in self.per_image} - {1}
        return max(sizes) if sizes else None

    def select(self, indices: Sequence[int]) -> Self:
        """Return the operator of some of the images it is bound to."""
        if self.count is None:
            return self
        chosen = copy.copy(self)
        chosen._buffers = dict(self._buffers)
        for name in self.per_image:
            buffer = getattr(self, name)
            if buffer.shape[0] > 1:
                chosen._buffers[name] = buffer[list(indices)]
        return chosen


class LinearOperator(ForwardOperator, abc.ABC):
    """A linear forward operator, which has an adjoint: <A x, y> = <x, A* y>."""

    @abc.abstractmethod
    def adjoint(self, measurements: Tensor) -> Tensor:
        """Map measurements ``(B, ...)`` to images ``(B, C, H, W)``."""

    @torch.no_grad()
    def correction(self, residual: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """Return what explains a residual: A* (A A* + rho I)^-1 r, for images ``(B, C, H, W)``.

        x + correction(y - A x, rho) is the argmin over x' of ||A x' - y||^2 + rho ||x' - x||^2; for rho = 0, where
        this is the pseudo-inverse, it is the point nearest to x whose measurements are y. The base class
        solves it by conjugate gradients, operators that can in closed form.

        Args:
            residual: ``(B, ...)``.
            rho: from 0 on; one number, or one for each image that broadcasts to the residual.
        """
        solved = conjugate_gradients(
            lambda u: self.measure(self.adjoint(u)) + rho * u, residual, ITERATIONS, TOLERANCE
        )
        return self.adjoint(solved)
