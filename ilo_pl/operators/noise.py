"""Noise models of measurements, drawn by seed and image id."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Annotated, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ilo_pl import seeding
from ilo_pl.errors import InputError
from ilo_pl.io.images import GREY_LEVELS
from ilo_pl.spec import Number, Spec, Whole, by_name

MAX_SIGMA = 1e6
# float32 counts single photons up to here.
MAX_PHOTONS = 2.0**24
# Anti-aliasing overshoots black a little; what is further below is no intensity.
DARKEST = -2.0
PURPOSE = "measurement noise"


class NoiseModel(Spec, abc.ABC):
    """What a measuring device adds to A(x).

    Every model also has ``sigma``, the standard deviation of its Gaussian part in 8-bit grey levels.
    """

    @property
    @abc.abstractmethod
    def strength(self) -> float | None:
        """Standard deviation of all that is added, in 8-bit grey levels; ``None`` where that does not describe it."""

    @abc.abstractmethod
    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return noisy measurements.

        Args:
            clean: measurements ``(B, ...)`` without noise; [-1, 1] is black to white.
            seed: the run's seed.
            ids: ids of the images, by which the noise of each is drawn.
        """


@final
class NoNoise(NoiseModel):
    """Measurements as the operator gives them."""

    name: Literal["none"]

    @property
    def sigma(self) -> float:
        """0."""
        return 0.0

    @property
    def strength(self) -> float:
        """0."""
        return 0.0

    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return the measurements."""
        return clean


@final
class GaussianNoise(NoiseModel):
    """Independent Gaussian noise of standard deviation ``sigma``, in 8-bit grey levels."""

    name: Literal["gaussian"]
    sigma: Annotated[Number, Field(ge=0, le=MAX_SIGMA)]

    @property
    def strength(self) -> float:
        """Its sigma."""
        return self.sigma

    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return the measurements plus sigma / 127.5 times a standard normal number each."""
        if self.sigma == 0:
            return clean
        drawn = seeding.normal(clean.shape[1:], seed, ids, PURPOSE).to(clean.device)
        return clean + self.sigma / GREY_LEVELS * drawn


@final
class PoissonNoise(NoiseModel):
    """Counting photons: intensity (y + 1) / 2 is measured by Poisson numbers of mean ``photons`` times it.

    Args:
        photons: mean number of photons at white.
    """

    name: Literal["poisson"]
    photons: Annotated[Number, Field(gt=0, le=MAX_PHOTONS)]

    @property
    def sigma(self) -> float:
        """Standard deviation at mid-grey, 255 sqrt(1 / (2 photons)) grey levels; black has none."""
        return float(2 * GREY_LEVELS * (0.5 / self.photons) ** 0.5)

    @property
    def strength(self) -> float:
        """Its sigma: that of mid-grey stands for all."""
        return self.sigma

    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return photon counts, scaled back to [-1, 1]; intensities below black count as black.

        Raises:
            InputError: the measurements are no intensities.
        """
        if float(clean.min()) < DARKEST:
            raise InputError(
                f"Poisson noise is for intensities, where -1 is black; a measurement is "
                f"{float(clean.min()):.3g}.",
                hint="Measurements that mix pixels with both signs take noise=gaussian.",
            )
        # Numbers are drawn on the CPU, so that every device sees the same ones.
        rate = ((clean.clamp(min=-1) + 1) / 2 * self.photons).cpu()
        counts = [
            torch.poisson(one, seeding.stream(seed, image_id, PURPOSE))
            for one, image_id in zip(rate, ids, strict=True)
        ]
        return torch.stack(counts).to(clean.device) / self.photons * 2 - 1


@final
class SaltAndPepper(NoiseModel):
    """A random ``share`` of the pixels is white or black, with equal chance.

    A pixel of a picture is hit in all channels; of other measurements, each number by itself.
    """

    name: Literal["salt_and_pepper"]
    share: Annotated[Number, Field(ge=0, le=1)]

    @property
    def sigma(self) -> float:
        """0: what is not hit is exact."""
        return 0.0

    @property
    def strength(self) -> float | None:
        """Unknown: what is hit says nothing."""
        return None if self.share else 0.0

    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return the measurements with some of them replaced by -1 or 1."""
        places = (1, *clean.shape[2:]) if clean.ndim == 4 else tuple(clean.shape[1:])
        draw = seeding.uniform(places, seed, ids, PURPOSE).to(clean.device)
        speck = torch.where(draw < self.share / 2, -1.0, 1.0)
        return torch.where(draw < self.share, speck, clean)


@final
class Quantisation(NoiseModel):
    """Values are clipped to [low, high] and rounded to ``levels`` evenly spaced numbers from low to high.

    Args:
        levels: how many; 256 from -1 to 1 are 8 bits.
        low: the lowest.
        high: the highest.
    """

    name: Literal["quantisation"]
    levels: Annotated[Whole, Field(ge=2, le=2**16)]
    low: Number = -1.0
    high: Number = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}.")
        return self

    @property
    def sigma(self) -> float:
        """0: the error is bounded and not Gaussian."""
        return 0.0

    @property
    def strength(self) -> float:
        """Of even errors up to half a step; of 8 bits and finer, as files of pictures have them, 0."""
        step = (self.high - self.low) / (self.levels - 1) * GREY_LEVELS
        return float(step / 12**0.5) if step > 1 + 1e-6 else 0.0

    def apply(self, clean: Tensor, seed: int, ids: Sequence[str]) -> Tensor:
        """Return the nearest level of each value."""
        step = (self.high - self.low) / (self.levels - 1)
        level = ((clean.clamp(self.low, self.high) - self.low) / step).round()
        return level * step + self.low


# What is not in this union cannot be chosen; everything that lists noise models reads it.
NoiseSpec = Annotated[
    NoNoise | GaussianNoise | PoissonNoise | SaltAndPepper | Quantisation,
    Field(discriminator="name"),
]
NOISES: dict[str, type[NoiseModel]] = by_name(NoiseSpec)
