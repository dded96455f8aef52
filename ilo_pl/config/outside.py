"""Methods outside the engine, typed: what each is for, its keys, and how it restores an image."""

from __future__ import annotations

import abc
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from ilo_pl.baselines.bm3d import bm3d
from ilo_pl.baselines.enlargement import enlarge
from ilo_pl.baselines.filling import biharmonic, check_holes, gaussian_filling, interpolation
from ilo_pl.baselines.packages import imported
from ilo_pl.baselines.total_variation import tv
from ilo_pl.baselines.wavelet import wavelet
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import ForwardOperator, LinearOperator, Mask
from ilo_pl.operators.config import (
    BicubicSpec,
    ClassifierSpec,
    IdentitySpec,
    OperatorSpec,
)
from ilo_pl.operators.mask_config import MaskSpec
from ilo_pl.operators.noise import GaussianNoise, NoiseSpec, SaltAndPepper
from ilo_pl.spec import Name, Number, Spec, Whole

FILLINGS = {
    "interpolation": interpolation,
    "gaussian_filling": gaussian_filling,
    "biharmonic": biharmonic,
}
Iterations = Annotated[Whole, Field(ge=1, le=10**6)]
Weight = Annotated[Number, Field(gt=0)]


class OutsideMethod(Spec, abc.ABC):
    """A method file of a method outside the engine.

    Args:
        name: how reports call it.
        outside: which method it is.

    Attributes:
        modules: what it imports that ``ilo_pl`` itself does not need.
    """

    modules: ClassVar[tuple[str, ...]] = ()

    name: Name
    outside: str

    def require(self) -> None:
        """Make sure that its packages are installed.

        Raises:
            ConfigurationError: one is not; says which extra brings it.
        """
        for module in self.modules:
            imported(module)

    def check(self, operator: OperatorSpec, noise: NoiseSpec) -> None:
        """Refuse what it is not made for.

        Raises:
            ConfigurationError: says which tasks it is for.
        """
        if not self.takes(operator, noise):
            what, instead = self.purpose
            raise ConfigurationError(
                f"The method {self.outside!r} {what}; here the operator is {operator.name!r} and the noise "
                f"{noise.name!r} with sigma = {noise.sigma:g}.",
                hint=f"Use it with {instead}, or another method for this task.",
            )

    @property
    @abc.abstractmethod
    def purpose(self) -> tuple[str, str]:
        """What it does, and with which task: ends of sentences."""

    @abc.abstractmethod
    def takes(self, operator: OperatorSpec, noise: NoiseSpec) -> bool:
        """Return whether it is made for such measurements."""

    def check_image(self, operator: ForwardOperator) -> None:
        """Refuse an image that only its operator shows to be too much.

        Raises:
            InputError: says what to use instead.
        """
        return

    @abc.abstractmethod
    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Restore one image.

        Args:
            operator: that of this image.
            measurements: ``(*operator.measurement_shape)``.
            sigma: their noise's standard deviation in 8-bit grey levels.

        Returns:
            ``(C, H, W)`` in [-1, 1].

        Raises:
            IloError: a package is missing, or the image is not for this method.
        """


@final
class BM3DMethod(OutsideMethod):
    """BM3D; see :func:`~ilo_pl.baselines.bm3d.bm3d`."""

    modules = ("bm3d",)
    outside: Literal["bm3d"]

    @property
    def purpose(self) -> tuple[str, str]:
        """Denoising."""
        return (
            "takes Gaussian noise of known strength off a picture",
            "task=denoising noise.sigma=25 (above 0)",
        )

    def takes(self, operator: OperatorSpec, noise: NoiseSpec) -> bool:
        """Return whether the measurements are the image plus Gaussian noise of known strength."""
        known = isinstance(noise, GaussianNoise) and noise.sigma > 0
        return isinstance(operator, IdentitySpec) and known

    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Denoise a picture."""
        return bm3d(measurements, sigma)


@final
class EnlargementMethod(OutsideMethod):
    """Enlargement by a kernel; see :func:`~ilo_pl.baselines.enlargement.enlarge`."""

    outside: Literal["bicubic", "lanczos"]

    @property
    def purpose(self) -> tuple[str, str]:
        """Super-resolution."""
        return "enlarges a picture that was reduced", "task=super_resolution"

    def takes(self, operator: OperatorSpec, noise: NoiseSpec) -> bool:
        """Return whether the image was reduced."""
        return isinstance(operator, BicubicSpec)

    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Enlarge a picture."""
        return enlarge(measurements, operator.image_shape[1:], self.outside)


@final
class FillingMethod(OutsideMethod):
    """Missing pixels from those around; see :mod:`ilo_pl.baselines.filling`."""

    modules = ("scipy.ndimage", "scipy.interpolate", "scipy.spatial", "skimage.restoration")
    outside: Literal["interpolation", "gaussian_filling", "biharmonic"]

    @property
    def purpose(self) -> tuple[str, str]:
        """Inpainting."""
        return "fills in the missing pixels of a mask", "task=inpainting or task=random_inpainting"

    def takes(self, operator: OperatorSpec, noise: NoiseSpec) -> bool:
        """Return whether there is a mask."""
        return isinstance(operator, MaskSpec)

    def check_image(self, operator: ForwardOperator) -> None:
        """Refuse holes that are too large for a linear system."""
        if self.outside == "biharmonic":
            check_holes(_mask(operator))

    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Fill in what is missing."""
        return FILLINGS[self.outside](measurements, _mask(operator))


class LinearMethod(OutsideMethod, abc.ABC):
    """A prior for any linear operator.

    Args:
        iterations: how many.
        weight: of the prior, in units of the noise.
    """

    iterations: Iterations = 200
    weight: Weight = 1.0

    @property
    def purpose(self) -> tuple[str, str]:
        """Every task but generation."""
        return (
            "fits linear measurements by least squares, without noise or with noise of known strength",
            "any task but ood_generation, and without salt and pepper",
        )

    def takes(self, operator: OperatorSpec, noise: NoiseSpec) -> bool:
        """Return whether the operator is linear and the noise not of outliers."""
        return not isinstance(operator, ClassifierSpec) and not isinstance(noise, SaltAndPepper)


@final
class WaveletMethod(LinearMethod):
    """Sparsity; see :func:`~ilo_pl.baselines.wavelet.wavelet`.

    Args:
        spin: whether the basis moves.
    """

    modules = ("pywt",)
    outside: Literal["wavelet"]
    spin: bool = True

    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Find a sparse image."""
        return wavelet(
            _linear(operator),
            measurements,
            sigma,
            iterations=self.iterations,
            weight=self.weight,
            spin=self.spin,
        )


@final
class TVMethod(LinearMethod):
    """Total variation; see :func:`~ilo_pl.baselines.total_variation.tv`."""

    modules = ("skimage.restoration",)
    outside: Literal["tv"]

    def restore(self, operator: ForwardOperator, measurements: Tensor, sigma: float) -> Tensor:
        """Find an image of little variation."""
        return tv(
            _linear(operator),
            measurements,
            sigma,
            iterations=self.iterations,
            weight=self.weight,
        )


def _mask(operator: ForwardOperator) -> Tensor:
    assert isinstance(operator, Mask), "checked by its specification"
    return operator.mask[0, 0]


def _linear(operator: ForwardOperator) -> LinearOperator:
    assert isinstance(operator, LinearOperator), "checked by its specification"
    return operator


# What is not in this union cannot be chosen.
OutsideConfig = Annotated[
    BM3DMethod | EnlargementMethod | FillingMethod | WaveletMethod | TVMethod,
    Field(discriminator="outside"),
]
