"""Any differentiable function of images as a forward operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, final

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError
from ilo_pl.operators.base import ForwardOperator
from ilo_pl.operators.copies import tensors_of


def as_real(measurements: Tensor) -> Tensor:
    """Return complex numbers as pairs (real, imaginary) in a new last dimension; real ones as they are."""
    return torch.view_as_real(measurements) if measurements.is_complex() else measurements


@final
class FunctionOperator(ForwardOperator):
    """Measure with a callable or a module.

    The function is tried out once, on two random images in [-1, 1]: what it returns for one of them must
    not depend on the other, and its gradient must reach the image. Complex measurements become pairs of
    real numbers (:func:`torch.view_as_real`), whose squared errors are those of the complex ones.

    A module, or the one whose method is given, is taken as it is: it is put into evaluation mode, and its
    parameters are taken out of differentiation. It is copied to the device of the search. Tensors that a
    plain function refers to stay where they are, so a search elsewhere needs a module with them as buffers.

    Args:
        function: maps images ``(B, C, H, W)`` to measurements ``(B, ...)``.
        image_shape: shape ``(C, H, W)`` of the images.
        measurement_shape: shape of one image's measurements, complex ones as pairs; found out by default.

    Raises:
        ConfigurationError: the function fails, returns something else, mixes images, draws random
            numbers, or cannot be differentiated.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        image_shape: tuple[int, int, int],
        measurement_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(image_shape)
        self.function = function
        owner = _owner(function)
        if owner is not None:
            owner.requires_grad_(False).eval()
        if owner is not function:
            self.owner = owner  # goes where its method goes
        shape = tuple(try_out(function, image_shape).shape[1:])
        if measurement_shape is not None and shape != tuple(measurement_shape):
            raise ConfigurationError(
                f"{_name(function)} measures {shape}, not {tuple(measurement_shape)}."
            )
        self._measurement_shape = shape

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of what the function returns for one image."""
        return self._measurement_shape

    def measure(self, images: Tensor) -> Tensor:
        """Call the function."""
        return as_real(self.function(images))

    def _copy_on(self, device: torch.device) -> Self:
        copied = super()._copy_on(device)
        try:
            with torch.no_grad():
                found = copied.measure(torch.zeros(1, *self.image_shape, device=device)).device
            problem = "" if found == device else f"it returns measurements on {found}"
        except Exception as error:
            # The function is somebody else's code.
            problem = f"{type(error).__name__}: {error}"
        if problem:
            raise ConfigurationError(
                f"{_name(self.function)} cannot measure images on {device}: {problem}",
                hint="Tensors that it refers to must move with it: make it a torch.nn.Module with them as "
                "buffers, and call FunctionOperator with that.",
            )
        return copied


def try_out(function: Callable[[Tensor], Tensor], image_shape: tuple[int, int, int]) -> Tensor:
    """Return the measurements of two random images, once the function is known to be usable.

    Raises:
        ConfigurationError: it is not.
    """
    name = _name(function)
    owner = _owner(function)
    tensors = tensors_of(owner) if owner is not None else []
    device = next((t.device for t in tensors), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    images = (torch.rand(2, *image_shape, generator=random) * 2 - 1).to(device).requires_grad_()
    with torch.enable_grad():
        both, one = (_call(function, images[:count], name) for count in (2, 1))
        if both.shape[1:] != one.shape[1:]:
            raise ConfigurationError(
                f"{name} measures {tuple(one.shape[1:])} of one image and {tuple(both.shape[1:])} of each "
                "of two: the shape must not depend on the batch."
            )
        scale = float(one.detach().abs().max()) if one.numel() else 0.0
        if not torch.allclose(both[:1], one, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
            raise ConfigurationError(
                f"{name} measures an image otherwise when another one is in the batch, or when it is "
                "called again.",
                hint="It must treat each image by itself and draw no random numbers.",
            )
        _check_gradient(both, images, name)
    return both.detach()


def _call(function: Callable[[Tensor], Tensor], images: Tensor, name: str) -> Tensor:
    try:
        measured = function(images)
    except Exception as error:
        raise ConfigurationError(
            f"{name} cannot measure images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {error}",
            hint="It is called with float32 images (B, C, H, W) in [-1, 1].",
        ) from error
    if not isinstance(measured, Tensor):
        raise ConfigurationError(
            f"{name} returns {type(measured).__name__}; measurements are one tensor (B, ...)."
        )
    if measured.ndim < 2 or len(measured) != len(images):
        raise ConfigurationError(
            f"{name} returns shape {tuple(measured.shape)} for {len(images)} images; measurements have "
            "shape (B, ...), with at least one number for each image."
        )
    return as_real(measured)


def _check_gradient(measured: Tensor, images: Tensor, name: str) -> None:
    hint = "The search follows gradients: use differentiable torch functions throughout."
    if not measured.requires_grad:
        raise ConfigurationError(f"{name} cannot be differentiated.", hint=hint)
    # Weights that differ, because a sum can have no gradient where its terms have.
    weights = torch.linspace(0.5, 1.5, measured.numel(), device=measured.device)
    total = (measured * weights.view_as(measured)).sum()
    gradient = torch.autograd.grad(total, images, allow_unused=True)[0]
    if gradient is None or not bool(gradient.any()):
        raise ConfigurationError(f"The gradient of {name} is zero on random images.", hint=hint)
    if not bool(torch.isfinite(gradient).all()):
        raise ConfigurationError(
            f"The gradient of {name} is not finite on random images.", hint=hint
        )


def _owner(function: object) -> nn.Module | None:
    """Return the module that a function is, or is a method of."""
    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
