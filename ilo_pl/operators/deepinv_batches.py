"""What a physics of DeepInverse has for each image of a batch: noise levels, and tensors of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ilo_pl.errors import InputError


def noise_sigmas(physics: Any, count: int) -> list[float | None]:
    """Return the standard deviation of each image's noise in units of y, ``None`` where noise is not Gaussian.

    Args:
        physics: a ``deepinv.physics.Physics``.
        count: how many images there are.

    Raises:
        InputError: the physics has noise levels for another number of images.
    """
    from deepinv.physics import GaussianNoise, ZeroNoise

    noise = getattr(physics, "noise_model", None)
    if noise is None or type(noise) is ZeroNoise:
        return [0.0] * count
    if type(noise) is not GaussianNoise:
        return [None] * count
    levels = torch.as_tensor(noise.sigma).detach().flatten().tolist()
    if len(levels) not in (1, count):
        raise InputError(
            f"The noise model has {len(levels)} levels and there are {count} measurements."
        )
    return levels * count if len(levels) == 1 else levels


def singles_of(physics: Any, count: int) -> list[Any]:
    """Return a physics for each image, where it holds tensors with one entry for each; else nothing."""
    if not isinstance(physics, nn.Module):
        return []
    tensors = dict([*physics.named_buffers(), *physics.named_parameters()])
    if count == 1 or not any(t.ndim > 1 and len(t) == count for t in tensors.values()):
        return []
    singles = []
    for i in range(count):
        single = copy.deepcopy(physics)
        for tensor in [*single.buffers(), *single.parameters()]:
            if tensor.ndim > 1 and len(tensor) == count:
                tensor.data = tensor.data[i : i + 1]
        singles.append(single)
    return singles
