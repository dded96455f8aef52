"""The contract of a generator that can be cut between any two of its blocks.

A generator is a chain of blocks. Split ``k`` is the cut in front of block ``k``: split 0 is the latent
itself, the last split is the image itself. ``run(start, stop)`` applies the blocks between two splits,
so ``G = run(0, last)``, ``G1 = run(0, k)`` and ``G2 = run(k, last)``, and ``G = G2(G1)`` bit for bit
because both sides run the same blocks in the same order.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, unknown

State = dict[str, Tensor]
"""Everything that crosses a cut, by name; each tensor has a leading batch dimension."""


@dataclass(frozen=True)
class Split:
    """One place where the generator can be cut.

    Args:
        name: how reports call it, for example ``block0``.
        shapes: shape of every tensor that crosses the cut, for one image. Empty at split 0.
        first_slot: the first style slot that is used behind the cut.
        first_noise: the first noise input that is used behind the cut.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    first_slot: int
    first_noise: int

    @property
    def numel(self) -> int:
        """Number of scalars of the split state of one image."""
        return sum(int(torch.Size(shape).numel()) for shape in self.shapes.values())


class SplitGenerator(nn.Module, abc.ABC):
    """A frozen generator behind splits, style slots and noise inputs.

    Subclasses set the attributes below before use and define :meth:`block` and :meth:`to_styles`.

    Attributes:
        splits: all cuts; ``splits[0]`` is the latent, ``splits[-1]`` the image with the one tensor
            ``image``.
        latent_dim: size D of one latent vector of the space z, and of all others unless
            :meth:`latent_size` says otherwise.
        num_slots: number S of style slots.
        noise_shapes: shape of each noise input of one image, ``(1, h, w)``.
        latent_spaces: names that :meth:`to_styles` accepts.
        skip_states: names of the split state's tensors that are a skip connection: an image that every
            block adds to.
    """

    latent_spaces: ClassVar[tuple[str, ...]]
    skip_states: ClassVar[tuple[str, ...]] = ()
    splits: tuple[Split, ...]
    latent_dim: int
    num_slots: int
    noise_shapes: tuple[tuple[int, ...], ...]

    @abc.abstractmethod
    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """Take the state from split ``k`` to split ``k + 1``.

        Args:
            k: index of the block.
            state: the split state at ``k``.
            styles: ``(B, s, E)``, the styles of this block's slots.
            noises: this block's noise inputs on the scale of N(0, 1), each ``(B, 1, h, w)``, or
                ``None`` for the generator's own fixed noise.
        """

    @abc.abstractmethod
    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents ``(B, n, D)`` of a latent space to styles ``(B, n, E)``, E the same for all spaces."""

    @abc.abstractmethod
    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers ``(B, n, D)`` into latents of a space; zeros into the mean of its latents."""

    @abc.abstractmethod
    def stored_noise(self, index: int) -> Tensor:
        """Return the generator's own noise of one input, on the scale of N(0, 1)."""

    def latent_size(self, space: str) -> int:
        """Return the size D of one latent vector of a space."""
        return self.latent_dim

    @property
    def last(self) -> int:
        """Index of the last split, the image."""
        return len(self.splits) - 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape ``(3, H, W)`` of the generated image."""
        channels, height, width = self.splits[-1].shapes["image"]
        return channels, height, width

    @property
    def computed_pixels(self) -> int:
        """Number of pixels of the largest image that it computes, by which its work is judged."""
        _, height, width = self.image_shape
        return height * width

    def split(self, k: int) -> Split:
        """Return split ``k``.

        Raises:
            ConfigurationError: there is no such split.
        """
        if not 0 <= k <= self.last:
            raise ConfigurationError(
                f"Split {k} does not exist: {type(self).__name__} has splits 0 to {self.last}.",
                choices=[f"{i} ({s.name})" for i, s in enumerate(self.splits)],
            )
        return self.splits[k]

    def check_space(self, space: str) -> None:
        """Raise :class:`ConfigurationError` unless ``space`` is one of :attr:`latent_spaces`."""
        if space not in self.latent_spaces:
            raise unknown("latent space", space, self.latent_spaces)

    def run(
        self,
        state: State,
        styles: Tensor,
        noises: Sequence[Tensor | None],
        start: int = 0,
        stop: int | None = None,
    ) -> State:
        """Run the blocks between two splits.

        Args:
            state: the split state at ``start``; ``{}`` at split 0.
            styles: ``(B, n, E)``, the styles of slot ``splits[start].first_slot`` and those after it
                (at least as many as the blocks use).
            noises: the noise inputs from ``splits[start].first_noise`` on, on the scale of N(0, 1);
                ``None`` stands for the generator's own fixed noise.
            start: split to start from.
            stop: split to end at; the image by default.

        Returns:
            The split state at ``stop``.
        """
        stop = self.last if stop is None else stop
        slot0, noise0 = self.splits[start].first_slot, self.splits[start].first_noise
        for k in range(start, stop):
            here, there = self.splits[k], self.splits[k + 1]
            state = self.block(
                k,
                state,
                styles[:, here.first_slot - slot0 : there.first_slot - slot0],
                noises[here.first_noise - noise0 : there.first_noise - noise0],
            )
        return state

    def forward(self, latents: Tensor, space: str = "z") -> Tensor:
        """Generate images with the generator's own noise.

        Args:
            latents: ``(B, D)``, ``(B, 1, D)`` or ``(B, S, D)``.
            space: the latent space they live in.

        Returns:
            Images ``(B, 3, H, W)``, about [-1, 1].
        """
        self.check_space(space)
        if latents.ndim == 2:
            latents = latents[:, None]
        styles = self.to_styles(latents, space).expand(-1, self.num_slots, -1)
        return self.run({}, styles, [None] * len(self.noise_shapes))["image"]

    def freeze(self) -> SplitGenerator:
        """Switch to evaluation and take every weight out of differentiation; returns self."""
        return self.eval().requires_grad_(False)
