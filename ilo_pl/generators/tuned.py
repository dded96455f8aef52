"""A generator with weights of its own for each image: the frozen ones, plus differences that are part of a point.

Tensors of one network differ in size by orders of magnitude (MobileStyleGAN's from 0.04 to 7), so that differences
are counted in units of their tensor: its root mean square. One learning rate and one radius then serve all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ilo_pl.generators.base import SplitGenerator, State


class _Blocks(nn.Module):
    """The blocks of a generator as a module's forward pass, which is what torch runs with other weights."""

    def __init__(self, generator: SplitGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *arguments: Any) -> State:
        """See :meth:`SplitGenerator.run`."""
        return self.generator.run(*arguments)


def unit(weight: Tensor) -> Tensor:
    """Return what a difference of a weight is counted in, its root mean square; 1 where all of it is zero."""
    size = weight.detach().float().square().mean().sqrt()
    return torch.where(size > 0, size, 1)


def tuned_weights(
    generator: SplitGenerator, differences: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights of one image.

    Args:
        generator: whose weights the differences are to.
        differences: by the parameter's name, each of its shape, in its :func:`unit`.
    """
    own = dict(generator.named_parameters())
    return {name: own[name] + unit(own[name]) * value for name, value in differences.items()}


def run_with(
    generator: SplitGenerator,
    weights: Mapping[str, Tensor],
    state: State,
    styles: Tensor,
    noises: list[Tensor | None],
    start: int,
    stop: int,
) -> State:
    """Run blocks with some weights in place of the generator's, which stay as they are.

    Args:
        generator: the generator.
        weights: by the parameter's name, each of its shape.
        state: the split state at ``start``, ``(B, ...)``.
        styles: ``(B, n, E)``, see :meth:`SplitGenerator.run`.
        noises: noise inputs, each ``(B, 1, h, w)`` or ``None``.
        start: split to start from.
        stop: split to end at.
    """
    given = {f"generator.{name}": value for name, value in weights.items()}
    arguments = (state, styles, noises, start, stop)
    done: State = torch.func.functional_call(_Blocks(generator), given, arguments)
    return done


def run_tuned(
    generator: SplitGenerator,
    differences: Mapping[str, Tensor],
    state: State,
    styles: Tensor,
    noises: list[Tensor | None],
    start: int,
    stop: int,
) -> State:
    """Run blocks for a batch in which every image has weights of its own, one image after the other.

    Args:
        generator: the generator.
        differences: by the parameter's name, ``(B, *shape)``.
        state: the split state at ``start``, ``(B, ...)``.
        styles: ``(B, n, E)``, see :meth:`SplitGenerator.run`.
        noises: noise inputs, each ``(B, 1, h, w)`` or ``None``.
        start: split to start from.
        stop: split to end at.
    """
    done = []
    for i in range(len(styles)):
        weights = tuned_weights(generator, {n: value[i] for n, value in differences.items()})
        done.append(
            run_with(
                generator,
                weights,
                {name: value[i : i + 1] for name, value in state.items()},
                styles[i : i + 1],
                [None if noise is None else noise[i : i + 1] for noise in noises],
                start,
                stop,
            )
        )
    return {name: torch.cat([one[name] for one in done]) for name in done[0]}


def unfit_weights(generator: SplitGenerator, differences: Mapping[str, Tensor]) -> list[str]:
    """Return in what differences of weights are not a generator's, at most one thing; empty where they fit."""
    shapes = {name: tuple(value.shape) for name, value in generator.named_parameters()}
    for name, value in differences.items():
        shape = tuple(value.shape[1:])
        if shape != shapes.get(name):
            return [f"weights {name[:80]!r} {shape} for its {shapes.get(name, 'none')}"]
    return []


def weights_behind(generator: SplitGenerator, split: int) -> tuple[str, ...]:
    """Return the names of the weights that the image depends on behind a split, single numbers left out.

    They are found by a run on the device ``meta``, which computes shapes and nothing else.

    Args:
        generator: the generator.
        split: the split; the last one has no weights behind it.
    """
    if split == generator.last:
        return ()
    named = {n: p for n, p in generator.named_parameters() if p.ndim and p.is_floating_point()}
    weights = {n: torch.empty_like(p, device="meta").requires_grad_() for n, p in named.items()}
    every = {**dict(generator.named_parameters()), **dict(generator.named_buffers())}
    rest = {n: value.detach().to("meta") for n, value in every.items() if n not in weights}
    here = generator.splits[split]
    state = {n: torch.zeros(1, *shape, device="meta") for n, shape in here.shapes.items()}
    styles = torch.zeros(1, generator.num_slots - here.first_slot, _style_size(generator)).to(
        "meta"
    )
    noises: list[Tensor | None] = [
        torch.zeros(1, *shape, device="meta")
        for shape in generator.noise_shapes[here.first_noise :]
    ]
    with torch.enable_grad():
        image = run_with(generator, weights | rest, state, styles, noises, split, generator.last)
        found = torch.autograd.grad(image["image"].sum(), list(weights.values()), allow_unused=True)
    return tuple(name for name, grad in zip(weights, found, strict=True) if grad is not None)


@torch.no_grad()
def _style_size(generator: SplitGenerator) -> int:
    """Return the size of one style."""
    space = generator.latent_spaces[0]
    like = next(generator.parameters())
    latents = torch.zeros(1, 1, generator.latent_size(space), device=like.device, dtype=like.dtype)
    return int(generator.to_styles(latents, space).shape[-1])
