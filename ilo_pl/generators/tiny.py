"""A seeded generator of 32 x 32 images that runs in milliseconds: for tests, debugging and CI.

It is built like StyleGAN2 (features and an accumulated RGB image cross each cut), so it exercises split
states of two tensors, which the shipped MobileStyleGAN does not have. Its weights are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.generators.activation import SLOPE
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.latents import SPACES, LatentSpaces, v_statistics


@final
class TinyGenerator(SplitGenerator):
    """Random network with 4 style slots, 4 noise inputs and splits 0 to 4.

    Args:
        seed: seed of the weights; the same seed gives the same network.
        latent_dim: size of a latent vector.
        channels: feature channels.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES
    skip_states: ClassVar[tuple[str, ...]] = ("rgb",)

    def __init__(self, seed: int = 0, latent_dim: int = 16, channels: int = 8) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        sizes = (4, 8, 16, 32)
        mapping = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.LeakyReLU(SLOPE))
        self.latents = LatentSpaces(mapping, latent_dim)
        self.const = nn.Parameter(torch.empty(1, channels, 4, 4))
        self.modulations = nn.ModuleList(nn.Linear(latent_dim, channels) for _ in sizes)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in sizes)
        self.to_rgb = nn.ModuleList(nn.Conv2d(channels, 3, 1) for _ in sizes)
        self._draw_weights(rng)
        self.freeze()
        mean, std = v_statistics(mapping, latent_dim, samples=20_000, seed=seed)
        self.latents.v_mean.copy_(mean)
        self.latents.v_std.copy_(std)
        for i, size in enumerate(sizes):
            self.register_buffer(f"noise{i}", torch.randn(1, 1, size, size, generator=rng))

        self.latent_dim = latent_dim
        self.num_slots = len(sizes)
        self.noise_shapes = tuple((1, size, size) for size in sizes)
        inner = tuple(
            Split(
                f"block{i}",
                {"features": (channels, size, size), "rgb": (3, size, size)},
                first_slot=i,
                first_noise=i,
            )
            for i, size in enumerate(sizes[:-1], start=1)
        )
        image = Split("image", {"image": (3, 32, 32)}, first_slot=4, first_noise=4)
        self.splits = (Split("latent", {}, 0, 0), *inner, image)

    @torch.no_grad()
    def _draw_weights(self, rng: torch.Generator) -> None:
        """Draw weights of a scale at which images have contrast and are not saturated."""
        for parameter in self.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * fan_in**-0.5)
        self.const.mul_(self.const.shape[1] ** 0.5)
        for name, parameter in self.named_parameters():
            if name.startswith("modulations") and name.endswith("bias"):
                parameter.fill_(1.0)
            elif name.startswith(("convs", "to_rgb")) and name.endswith("bias"):
                parameter.mul_(0.1)
            elif name.startswith("to_rgb"):
                parameter.mul_(0.3)

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`."""
        if k == 0:
            x = self.const.expand(styles.shape[0], -1, -1, -1)
        else:
            x = F.interpolate(state["features"], scale_factor=2.0, mode="nearest")
        x = self.convs[k](x * self.modulations[k](styles[:, 0])[:, :, None, None])
        noise = noises[0]
        x = F.leaky_relu(x + 0.05 * (self.stored_noise(k) if noise is None else noise), SLOPE)
        rgb = self.to_rgb[k](x)
        if k > 0:
            rgb = rgb + F.interpolate(state["rgb"], scale_factor=2.0, mode="nearest")
        return {"features": x, "rgb": rgb} if k < self.last - 1 else {"image": torch.tanh(rgb)}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents of z, v or w to styles."""
        styles: Tensor = self.latents(latents, space)
        return styles

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers into latents of z, v or w."""
        return self.latents.from_normal(normal, space)

    def stored_noise(self, index: int) -> Tensor:
        """Return the fixed noise map of one input."""
        noise = getattr(self, f"noise{index}")
        assert isinstance(noise, Tensor)
        return noise
