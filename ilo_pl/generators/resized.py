"""Smaller pictures of any generator: its reduction is a part of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.precision import without_autocast
from ilo_pl.generators.resampling import resampling_matrix, whole_factors


@final
class Resized(SplitGenerator):
    """A generator whose pictures are reduced by anti-aliased bicubic resampling (a = -0.5).

    Latents, styles, noises and all splits before the last are the inner generator's, so that latents found at
    one size also make the picture of another; the last split is the reduced image. It is reduced in float32,
    before it is clamped, whatever the autocast.

    Args:
        generator: the inner generator.
        size: height and width of the images, a whole fraction of the inner generator's; of images that
            are not square, the shorter side.

    Attributes:
        inner: the inner generator.

    Raises:
        ConfigurationError: the inner generator's size is no whole multiple of ``size``.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, generator: SplitGenerator, size: int) -> None:
        super().__init__()
        channels, height, width = generator.image_shape
        factor = _factor(generator, size)
        self.inner = generator
        # With the weights, because they are what a checkpoint knows a generator by.
        self.register_buffer("rows", resampling_matrix(height, factor).float())
        self.register_buffer("columns", resampling_matrix(width, factor).float())
        self.to(next((p.device for p in generator.parameters()), self.rows.device))
        # The contract has them with the class; here they are those of an instance.
        self.latent_spaces = generator.latent_spaces  # type: ignore[misc]
        self.skip_states = generator.skip_states  # type: ignore[misc]
        self.latent_dim = generator.latent_dim
        self.num_slots = generator.num_slots
        self.noise_shapes = generator.noise_shapes
        image = generator.splits[-1]
        shape = (channels, height // factor, width // factor)
        self.splits = (
            *generator.splits[:-1],
            Split(image.name, {"image": shape}, image.first_slot, image.first_noise),
        )

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`; the last block reduces the image."""
        state = self.inner.block(k, state, styles, noises)
        if k + 1 < self.last:
            return state
        image = state["image"]
        with without_autocast(image.device):
            return {"image": self.rows @ image.to(self.rows.dtype) @ self.columns.T}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents ``(B, n, D)`` to styles ``(B, n, E)`` as the inner generator does."""
        return self.inner.to_styles(latents, space)

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers ``(B, n, D)`` into latents as the inner generator does."""
        return self.inner.from_normal(normal, space)

    def stored_noise(self, index: int) -> Tensor:
        """Return the inner generator's own noise of one input."""
        return self.inner.stored_noise(index)

    def latent_size(self, space: str) -> int:
        """Return the size D of one latent vector of a space."""
        return self.inner.latent_size(space)

    @property
    def computed_pixels(self) -> int:
        """Number of pixels of the inner generator's image."""
        return self.inner.computed_pixels


def _factor(generator: SplitGenerator, size: int) -> int:
    """Return by what the sides of a generator's images are divided.

    Raises:
        ConfigurationError: nothing whole.
    """
    sides = generator.image_shape[1:]
    factors = whole_factors(sides)
    fits = {min(sides) // factor: factor for factor in factors}
    if size not in fits:
        width_by_height = f"{sides[1]} x {sides[0]}"
        raise ConfigurationError(
            f"size = {size}: {type(generator).__name__} makes pictures of {width_by_height}, which are made "
            "smaller by whole factors only.",
            choices=map(str, fits),
        )
    return fits[size]


def with_size(generator: SplitGenerator, size: int | None) -> SplitGenerator:
    """Return a generator of pictures of a size; itself where it makes them, or where none is asked for.

    Args:
        generator: the generator.
        size: see :class:`Resized`.

    Raises:
        ConfigurationError: its size is no whole multiple of ``size``.
    """
    if size is None or size == min(generator.image_shape[1:]):
        return generator
    return Resized(generator, size)


def size_of(generator: SplitGenerator, size: tuple[int, int]) -> int | None:
    """Return the size at which a generator, or the one that was resized, makes pictures of a width and height.

    Args:
        generator: the generator.
        size: width and height.

    Returns:
        What :class:`Resized` takes; ``None`` where there is no such size.
    """
    inner = generator.inner if isinstance(generator, Resized) else generator
    _, height, width = inner.image_shape
    for factor in whole_factors((height, width)):
        if (width // factor, height // factor) == size:
            return min(size)
    return None
