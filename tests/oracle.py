"""The published algorithm as a plain loop, written for the tests: no Lightning, no engine, no balls, no
re-encoding. One image at a time, Adam with the cosine ramp, best iterate by squared error; what else the published
code does is asked for piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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


@dataclass(frozen=True)
class Published:
    """What the published code does beyond a plain loop; all of it off is the plain loop.

    Args:
        keep_skip: a new layer goes on from the RGB image of those before.
        spheres: latents and noises go back to the length, along the last axis, that they had where their layer began.
        last: a new layer starts from the last iterate, not from the best.
        geocross: weight of the latents' spread.
        perceptual: LPIPS of predicted and given measurements, of weight 1.
    """

    keep_skip: bool = True
    spheres: bool = False
    last: bool = False
    geocross: float = 0.0
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None


def watched(
    generator: SplitGenerator,
    watch: Callable[[int, Tensor], None],
    numbers: Iterator[int],
    hidden: dict[str, Tensor],
    latents: Tensor,
    noises: dict[int, Tensor],
    split: int,
) -> Tensor:
    """Return the image of a layer's variables, shown to who watches with the step's number."""
    inputs = [noises[i] for i in range(generator.splits[split].first_noise, len(noises))]
    image = generator.run(hidden, generator.to_styles(latents, "v"), inputs, split)["image"]
    watch(next(numbers), image.detach())
    return image


def search_layer(
    image_now: Callable[[], Tensor],
    latents: Tensor,
    variables: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    measure: Callable[[Tensor], Tensor],
    measured: Tensor,
    *,
    bound: Sequence[Tensor],
    steps: int,
    observed: float,
    what: Published,
) -> list[Tensor]:
    """Take one layer's steps, and return the variables of its iterate of lowest squared error."""
    radii = [v.detach().norm(dim=-1, keepdim=True) for v in bound]
    best, best_loss = [v.detach().clone() for v in variables], math.inf
    lr = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * ramp(step / steps)
        image = image_now()
        predicted = measure(image)
        loss = (predicted - measured).square().sum() / observed
        if loss.item() < best_loss:
            best, best_loss = [v.detach().clone() for v in variables], loss.item()
        if what.perceptual is not None:
            loss = loss + what.perceptual(predicted, measured).sum()
        if what.geocross and latents.shape[1] > 1:
            loss = loss + what.geocross * spread(latents)
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
        with torch.no_grad():
            for variable, radius in zip(bound, radii, strict=True):
                variable.mul_(radius / variable.norm(dim=-1, keepdim=True))
    return best


def published_loop(
    generator: SplitGenerator,
    measure: Callable[[Tensor], Tensor],
    measured: Tensor,
    latents: Tensor,
    splits: Sequence[int],
    free: Sequence[int],
    *,
    steps: Sequence[int],
    observed: float,
    lr: float = 0.1,
    noises: dict[int, Tensor] | None = None,
    what: Published = Published(),  # frozen
    watch: Callable[[int, Tensor], None] = lambda step, image: None,
) -> Tensor:
    """Return the image ``(1, 3, H, W)`` that the last layer's iterate of lowest squared error generates.

    ``latents`` is the start in v, ``(1, S, D)``, ``noises`` that of every noise input, by default the generator's
    own; ``measured`` is of one image, and ``observed`` how many scalars were measured. ``watch`` is shown each step's
    number and image.
    """
    latents = latents.clone()
    hidden: dict[str, Tensor] = {}
    count_all = len(generator.noise_shapes)
    given = noises or {i: generator.stored_noise(i) for i in range(count_all)}
    noises = {i: given[i].clone() for i in range(count_all)}
    at = done = 0
    for split, count, length in zip(splits, free, steps, strict=True):
        if split > at:
            with torch.no_grad():
                styles = generator.to_styles(latents, "v")
                inputs = [noises[i] for i in range(generator.splits[at].first_noise, count_all)]
                hidden = generator.run(hidden, styles, inputs, at, split)
            latents = latents[
                :, generator.splits[split].first_slot - generator.splits[at].first_slot :
            ]
            at = split
            if not what.keep_skip and "rgb" in hidden:
                hidden["rgb"] = torch.zeros_like(hidden["rgb"])
        first = generator.splits[split].first_noise
        freed = range(first, min(count, count_all))
        latents = latents.detach().clone()
        variables = [latents, *hidden.values(), *(noises[i] for i in freed)]
        for variable in variables:
            variable.requires_grad_()
        kept_fixed = None if what.keep_skip else hidden.get("rgb")
        optimizer = torch.optim.Adam([v for v in variables if v is not kept_fixed], lr=lr)
        bound = [latents, *(noises[i] for i in freed)] if what.spheres else []
        image_now = partial(
            watched,
            generator,
            watch,
            iter(range(done, done + length)),
            hidden,
            latents,
            noises,
            split,
        )
        done += length
        best = search_layer(
            image_now,
            latents,
            variables,
            optimizer,
            measure,
            measured,
            bound=bound,
            steps=length,
            observed=observed,
            what=what,
        )
        if what.last and split != splits[-1]:
            best = [v.detach().clone() for v in variables]
        latents = best[0]
        hidden = dict(zip(hidden, best[1:], strict=False))
        noises.update(zip(freed, best[1 + len(hidden) :], strict=True))
    with torch.no_grad():
        inputs = [noises[i] for i in range(generator.splits[at].first_noise, count_all)]
        image = generator.run(hidden, generator.to_styles(latents, "v"), inputs, at)["image"]
    return image.clamp(-1, 1)
