"""The published algorithm as a plain loop, written for the tests: no Lightning, no engine, no balls, no
re-encoding. One image at a time, Adam with the cosine ramp, best iterate by measurement loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ilo_pl.generators.base import SplitGenerator


def ramp(t: float) -> float:
    return (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.75))) * min(1.0, t / 0.05)


def spread(latents: Tensor) -> Tensor:
    """PULSE's GEOCROSS of the layers still in use, ``(1, n, D)``, pair by pair."""
    n, dimension = latents.shape[1:]
    total = latents.new_zeros(())
    for i in range(n):
        for j in range(n):
            a, b = latents[0, i], latents[0, j]
            apart = ((a - b).square().sum() + 1e-9).sqrt()
            together = ((a + b).square().sum() + 1e-9).sqrt()
            total = total + (2 * torch.atan2(apart, together)) ** 2
    return total / n**2 * dimension / 8


def published_loop(
    generator: SplitGenerator,
    measure: Callable[[Tensor], Tensor],
    measured: Tensor,
    latents: Tensor,
    splits: Sequence[int],
    free: Sequence[int],
    *,
    steps: int,
    observed: float,
    lr: float = 0.1,
    keep_skip: bool = True,
    geocross: float = 0.0,
    watch: Callable[[int, Tensor], None] = lambda step, image: None,
) -> Tensor:
    """Return the image ``(1, 3, H, W)`` that the last stage's best iterate generates.

    ``latents`` is the start in v, ``(1, S, D)``; ``measured`` is of one image, and ``observed`` how many
    scalars were measured. Without ``keep_skip`` every new layer starts without the RGB image of those
    before, as published. ``watch`` is shown each step's number and image.
    """
    latents = latents.clone()
    hidden: dict[str, Tensor] = {}
    noises = {i: generator.stored_noise(i).clone() for i in range(len(generator.noise_shapes))}
    at = done = 0
    for split, count in zip(splits, free, strict=True):
        if split > at:
            with torch.no_grad():
                styles = generator.to_styles(latents, "v")
                inputs = [noises[i] for i in range(generator.splits[at].first_noise, len(noises))]
                hidden = generator.run(hidden, styles, inputs, at, split)
            latents = latents[
                :, generator.splits[split].first_slot - generator.splits[at].first_slot :
            ]
            at = split
            if not keep_skip and "rgb" in hidden:
                hidden["rgb"] = torch.zeros_like(hidden["rgb"])
        first = generator.splits[split].first_noise
        variables = [latents, *hidden.values(), *(noises[i] for i in range(first, count))]
        for variable in variables:
            variable.requires_grad_()
        searched = [v for v in variables if keep_skip or v is not hidden.get("rgb")]
        optimizer = torch.optim.Adam(searched, lr=lr)
        best, best_loss = [v.detach().clone() for v in variables], math.inf
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * ramp(step / steps)
            inputs = [noises[i] for i in range(first, len(noises))]
            image = generator.run(hidden, generator.to_styles(latents, "v"), inputs, split)["image"]
            watch(done, image.detach())
            done += 1
            loss = (measure(image) - measured).square().sum() / observed
            if loss.item() < best_loss:
                best, best_loss = [v.detach().clone() for v in variables], loss.item()
            if geocross and latents.shape[1] > 1:
                loss = loss + geocross * spread(latents)
            optimizer.zero_grad()
            torch.autograd.backward([loss])
            optimizer.step()
        latents = best[0]
        hidden = dict(zip(hidden, best[1:], strict=False))
        noises.update(zip(range(first, count), best[1 + len(hidden) :], strict=True))
    with torch.no_grad():
        inputs = [noises[i] for i in range(generator.splits[at].first_noise, len(noises))]
        image = generator.run(hidden, generator.to_styles(latents, "v"), inputs, at)["image"]
    return image.clamp(-1, 1)
