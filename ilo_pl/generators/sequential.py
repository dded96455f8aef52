"""Any chain of modules that makes images from a vector or a small tensor, behind the split contract."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.latents import SPACES


@final
class SequentialGenerator(SplitGenerator):
    """A generator or decoder that runs its modules one after the other: DCGAN, VAE decoder, MLP.

    It has one style slot, the latent, which the first module alone sees, and no noise inputs. The latent
    is N(0, 1), so that it is its own Gaussianisation: the spaces z, v and w are the same, and every method
    works unchanged. Images of one channel become three equal ones.

    Args:
        modules: the chain; each takes and returns one tensor with a leading batch dimension. They are
            switched to evaluation and frozen.
        latent: D for a first module that takes ``(B, D)``, or the shape ``(C, h, w)`` of what it takes.
        splits: numbers of the modules in front of which the generator can be cut, increasing, from 1
            on; all of them by default.
        output_range: lowest and highest value of the last module, mapped to [-1, 1]: (0, 1) behind a
            sigmoid.

    Raises:
        ConfigurationError: the arguments do not fit each other, or the chain does not run.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES

    def __init__(
        self,
        modules: Sequence[nn.Module],
        *,
        latent: int | tuple[int, ...],
        splits: Sequence[int] | None = None,
        output_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self._latent_shape = (latent,) if isinstance(latent, int) else tuple(latent)
        low, high = output_range
        if not low < high or min(self._latent_shape, default=0) < 1:
            raise ConfigurationError(
                f"latent = {latent} with output_range = {output_range} cannot be used.",
                hint="A latent has a positive size, and a range's lower end comes first.",
            )
        cuts = list(range(1, len(modules)) if splits is None else splits)
        bounds = [0, *cuts, len(modules)]
        if any(a >= b for a, b in itertools.pairwise(bounds)):
            raise ConfigurationError(
                f"splits = {cuts} do not cut {len(modules)} modules.",
                hint=f"Give increasing numbers from 1 to {len(modules) - 1}.",
            )
        self._gain, self._offset = 2 / (high - low), -(high + low) / (high - low)
        self.parts = nn.ModuleList(
            nn.Sequential(*modules[a:b]) for a, b in itertools.pairwise(bounds)
        )
        self.freeze()
        self.latent_dim = math.prod(self._latent_shape)
        self.num_slots = 1
        self.noise_shapes = ()
        inner, image = self._trial()
        self.splits = (
            Split("latent", {}, 0, 0),
            *(Split(f"module{c}", {"features": s}, 1, 0) for c, s in zip(cuts, inner, strict=True)),
            Split("image", {"image": image}, 1, 0),
        )

    @torch.no_grad()
    def _trial(self) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """Run the chain once; return the shapes at its cuts and the image's."""
        example = next((p for p in self.parameters()), torch.zeros(()))
        x = torch.zeros(2, *self._latent_shape, device=example.device, dtype=example.dtype)
        shapes = []
        for number, part in enumerate(self.parts):
            try:
                x = part(x)
            except (RuntimeError, TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"Part {number} of the generator does not take what comes before it, a tensor of "
                    f"shape {tuple(x.shape)}: {error}",
                    hint="The argument latent is the shape that the first module takes.",
                ) from error
            if not isinstance(x, Tensor) or len(x) != 2:
                raise ConfigurationError(
                    f"Part {number} of the generator must return one tensor with the batch first."
                )
            shapes.append(tuple(x.shape[1:]))
        *inner, last = shapes
        if len(last) != 3 or last[0] not in (1, 3):
            raise ConfigurationError(
                f"The last module returns {last} for an image; it must be (1 or 3, H, W).",
                hint="nn.Unflatten(1, (1, 28, 28)) gives a vector the shape of an image.",
            )
        return inner, (3, *last[1:])

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`. Block 0 gives the latent its shape."""
        x = state["features"] if k else styles[:, 0].reshape(-1, *self._latent_shape)
        x = self.parts[k](x)
        if k < len(self.parts) - 1:
            return {"features": x}
        return {"image": (x * self._gain + self._offset).expand(-1, 3, -1, -1)}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Return the latents: all spaces are one."""
        return latents

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Return the numbers: the latent is N(0, 1)."""
        return normal

    def stored_noise(self, index: int) -> Tensor:
        """Raise: there are no noise inputs."""
        raise ConfigurationError(f"There is no noise input {index}: this generator has none.")
