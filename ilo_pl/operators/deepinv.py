"""Physics of DeepInverse (https://deepinv.github.io) as forward operators.

Its images are in [0, 1], ours in [-1, 1]. A linear physics is applied to our images as they are, so that it
stays linear; its measurements are those of 2 x - 1. Any other physics is applied to (x + 1) / 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.operators.base import ForwardOperator, LinearOperator
from ilo_pl.operators.composition import compose
from ilo_pl.operators.function import FunctionOperator, as_real, try_out
from ilo_pl.operators.mask import Mask
from ilo_pl.operators.pointwise import Grey, Identity

CONVERSIONS = ("rgb", "grey", "two_channels")
RANGES = ("signed", "unit")
ADJOINT_TOLERANCE = 1e-3


def deepinv_operator(
    physics: Any,
    image_shape: tuple[int, int, int],
    *,
    to_input: str | Callable[[Tensor], Tensor] = "rgb",
    value_range: Literal["signed", "unit"] | None = None,
    complex_input: bool = False,
) -> ForwardOperator:
    """Return a physics of DeepInverse as a forward operator; its noise model and sensor are left out.

    Inpainting of whole pixels and denoising become :class:`Mask` and :class:`Identity`, which say of single
    pixels what losses and measured consistency make use of.

    Args:
        physics: a ``deepinv.physics.Physics`` that measures one tensor. It is put into evaluation mode
            and its parameters are taken out of differentiation.
        image_shape: shape ``(C, H, W)`` of the images that are sought.
        to_input: what the physics takes. ``"rgb"``: the image; ``"grey"``: its luma, ``(B, 1, H, W)``, as
            tomography does; ``"two_channels"``: the luma as a complex image with its imaginary part, 0, as
            a second channel, as MRI does; or an operator, or any differentiable function, from images to
            what it takes.
        value_range: what the physics sees: ``"signed"``, the image in [-1, 1], or ``"unit"``, (x + 1) / 2.
            By default signed for a linear physics and unit for others. A linear physics becomes affine by
            ``"unit"``, and has no adjoint then.
        complex_input: hand the physics a tensor of complex numbers with imaginary part 0, as phase
            retrieval needs.

    Returns:
        A :class:`LinearOperator` where the physics, and what comes before it, are linear.

    Raises:
        ConfigurationError: DeepInverse is not installed, or the physics cannot be used.
    """
    linear = _is_linear(physics)
    parts = _to_range(value_range or ("signed" if linear else "unit"), image_shape)
    parts += _conversion(to_input, image_shape)
    shape = parts[-1].measurement_shape if parts else image_shape
    if len(shape) != 3:
        raise ConfigurationError(f"to_input makes {shape}; a physics takes images (C, H, W).")
    known = _known(physics, (shape[0], shape[1], shape[2])) if not complex_input else None
    if known is not None:
        parts.append(known)
        return parts[0] if len(parts) == 1 else compose(parts)
    noiseless = NoiselessPhysics(physics, complex_input)
    kind = PhysicsOperator if linear else FunctionOperator
    parts.append(kind(noiseless, (shape[0], shape[1], shape[2])))
    return parts[0] if len(parts) == 1 else compose(parts)


def _known(physics: Any, shape: tuple[int, int, int]) -> LinearOperator | None:
    """Return the operator of this package that a physics is, if any."""
    from deepinv.physics import Denoising, Inpainting

    mask = getattr(physics, "mask", None)
    if type(physics) is Denoising and isinstance(mask, Tensor) and bool((mask == 1).all()):
        return Identity(shape)
    if type(physics) is not Inpainting or not isinstance(mask, Tensor) or mask.ndim != 4:
        return None
    pixels = mask[:, :1]
    binary = bool(((mask == 0) | (mask == 1)).all()) and bool((mask == pixels).all())
    whole = tuple(mask.shape[1:]) in (shape, (1, *shape[1:])) and bool(mask.any(-1).any(-1).all())
    return Mask(pixels, shape[0]) if binary and whole else None


def _to_range(value_range: str, image_shape: tuple[int, int, int]) -> list[ForwardOperator]:
    if value_range not in RANGES:
        raise unknown("value range", value_range, RANGES)
    return [FunctionOperator(to_unit, image_shape)] if value_range == "unit" else []


def _is_linear(physics: Any) -> bool:
    """Return whether a physics is linear, once it is known to be one."""
    try:
        # It takes seconds to import and is an extra.
        from deepinv.physics import LinearPhysics, Physics
    except ImportError as error:
        raise ConfigurationError(
            f"The package deepinv cannot be imported: {error}.",
            hint="pip install 'ilo_pl[deepinv]'",
        ) from error
    if not isinstance(physics, Physics):
        raise ConfigurationError(
            f"{type(physics).__name__} is no deepinv.physics.Physics.",
            hint="FunctionOperator takes any differentiable function.",
        )
    return isinstance(physics, LinearPhysics)


def to_unit(images: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1]."""
    return (images + 1) / 2


def _conversion(
    to_input: str | Callable[[Tensor], Tensor], image_shape: tuple[int, int, int]
) -> list[ForwardOperator]:
    if isinstance(to_input, ForwardOperator):
        return [to_input]
    if not isinstance(to_input, str):
        return [FunctionOperator(to_input, image_shape)]
    if to_input not in CONVERSIONS:
        raise unknown("conversion to_input =", to_input, CONVERSIONS)
    grey = [] if to_input == "rgb" else [Grey(image_shape)]
    return [*grey, RealPart((1, *image_shape[1:]))] if to_input == "two_channels" else [*grey]


@final
class RealPart(LinearOperator):
    """Make images ``(1, H, W)`` the real part of complex ones ``(2, H, W)``; the imaginary part is 0."""

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(2, H, W)``."""
        return 2, *self.image_shape[1:]

    def measure(self, images: Tensor) -> Tensor:
        """Append a channel of zeros."""
        return torch.cat([images, torch.zeros_like(images)], 1)

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Return the first channel."""
        return measurements[:, :1]


class NoiselessPhysics(nn.Module):
    """The map A of a physics, without its noise and sensor.

    Args:
        physics: the physics.
        complex_input: hand it complex images with imaginary part 0.
    """

    def __init__(self, physics: Any, complex_input: bool) -> None:
        super().__init__()
        self.physics = physics
        self.complex_input = complex_input
        self.__name__ = type(physics).__name__

    def forward(self, images: Tensor) -> Tensor:
        """Return A(x)."""
        if self.complex_input:
            images = torch.complex(images, torch.zeros_like(images))
        measured: Tensor = self.physics.A(images)
        return measured


@final
class PhysicsOperator(LinearOperator):
    """A linear physics with the adjoint that it brings.

    Complex measurements become pairs of real numbers; the adjoint is that of the real-linear map.

    Args:
        noiseless: the map of a ``deepinv.physics.LinearPhysics``.
        image_shape: shape of the images that it takes.

    Raises:
        ConfigurationError: the map cannot be used, or its ``A_adjoint`` is not its adjoint.
    """

    def __init__(self, noiseless: NoiselessPhysics, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.noiseless = noiseless.requires_grad_(False).eval()
        measured = try_out(noiseless, image_shape)
        self._measurement_shape = tuple(measured.shape[1:])
        images = torch.rand(2, *image_shape, device=measured.device)
        with torch.no_grad():
            self._complex = noiseless(images).is_complex()
            self._check_adjoint(images)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one image's measurements; complex ones are pairs."""
        return self._measurement_shape

    def measure(self, images: Tensor) -> Tensor:
        """Return A x."""
        return as_real(self.noiseless(images))

    def adjoint(self, measurements: Tensor) -> Tensor:
        """Return A* y."""
        if self._complex:
            measurements = torch.view_as_complex(measurements.contiguous())
        images: Tensor = self.noiseless.physics.A_adjoint(measurements)
        return images.real if images.is_complex() else images

    def _check_adjoint(self, images: Tensor) -> None:
        measured = self(images)
        other = torch.rand_like(measured)
        back = self.adjoint(other)
        if back.shape == images.shape:
            left, right = float((measured * other).sum()), float((images * back).sum())
            if abs(left - right) <= ADJOINT_TOLERANCE * float(measured.norm() * other.norm()):
                return
        raise ConfigurationError(
            f"A_adjoint of {self.noiseless.__name__} is not the adjoint of its A.",
            hint="FunctionOperator(physics.A, image_shape) does without it.",
        )
