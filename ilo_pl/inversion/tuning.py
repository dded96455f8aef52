"""Stages that tune the generator to each image: which weights, in which ball, and when that can be asked for.

The weights behind a stage's split are variables of every image by itself (image-adaptive GANs, Hussein et al. 2020,
arXiv 1906.05284; pivotal tuning, Roich et al. 2021, arXiv 2106.05744), kept in an l2 ball around the pretrained ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.generators.point import Point
from ilo_pl.generators.tuned import weights_behind
from ilo_pl.inversion.stage_spec import Stage, Tune

KERNEL_DIMS = 4


def free_weights(generator: SplitGenerator, point: Point, stage: Stage) -> Point:
    """Add differences of the weights that become variables to a point, at zero: the pretrained weights.

    Args:
        generator: the generator.
        point: the point, at the stage's split.
        stage: says which weights.
    """
    if not stage.tunes:
        return point
    like, weights = point.latents, dict(point.weights)
    shapes = {name: value.shape for name, value in generator.named_parameters()}
    for name in tuned_names(generator, stage.tune, point.split):
        if name not in weights:
            weights[name] = like.new_zeros(len(like), *shapes[name])
    return replace(point, weights=weights)


def tuned_names(generator: SplitGenerator, tune: Tune, split: int) -> list[str]:
    """Return the names of the weights behind a split that are tuned."""
    dims = {name: value.ndim for name, value in generator.named_parameters()}
    behind = weights_behind(generator, split) if tune.weights != "none" else ()
    return [n for n in behind if tune.weights == "all" or dims[n] == KERNEL_DIMS]


def check_weights(generator: SplitGenerator, stage: Stage) -> None:
    """Refuse a stage that tunes weights of which there are none.

    Raises:
        ConfigurationError: a generator has no such weights behind the stage's split.
    """
    if stage.tunes and not tuned_names(generator, stage.tune, stage.split):
        raise ConfigurationError(
            f"tune.weights = {stage.tune.weights}, and {type(generator).__name__} has no such weights behind split "
            f"{stage.split}.",
            choices=("tune.weights=none", "tune.weights=all"),
            hint="The image, which is the last split, has none behind it.",
        )


def project_weights(tune: Tune, differences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the nearest differences of weights that a stage allows; none where there is no ball.

    Args:
        tune: the radius.
        differences: by name, ``(B, *shape)``; all of an image lie in one ball.

    Returns:
        The differences by name. Images inside stay untouched, bit for bit.
    """
    if tune.radius is None or not differences:
        return {}
    values = list(differences.values())
    limit = tune.radius * sum(value[0].numel() for value in values) ** 0.5
    norm = l2_norm(values)
    scale = torch.where(norm > limit, limit / norm.clamp(min=1e-30), 1).to(values[0].dtype)
    return {
        name: value * scale.view(-1, *[1] * (value.ndim - 1)) for name, value in differences.items()
    }


def l2_norm(values: Sequence[Tensor]) -> Tensor:
    """Return the l2 norm of all that tensors ``(B, ...)`` have of an image, ``(B,)``, in float64 where it exists."""
    dtype = torch.float32 if values[0].device.type == "mps" else torch.float64
    squares = [value.flatten(1).square().sum(1, dtype=dtype) for value in values]
    return torch.stack(squares).sum(0).sqrt()


def check_tuning(stages: Sequence[Stage], reencodes: Sequence[bool]) -> None:
    """Refuse tuning that the algorithm has no meaning for.

    Args:
        stages: the stages of a schedule.
        reencodes: which of them re-encode their solution.

    Raises:
        ConfigurationError: a solution with weights of its own would be re-encoded, or a radius holds nothing.
    """
    radii = [stage.tune.radius for stage in stages if stage.tune.radius is not None]
    if radii and all(stage.tune.weights == "none" for stage in stages):
        raise ConfigurationError(
            f"tune.radius = {radii[0]:g}, and no stage tunes weights that it could hold.",
            choices=("tune.weights=all", "tune.weights=kernels", "tune.radius=null"),
        )
    first = next((i for i, stage in enumerate(stages) if stage.tunes), len(stages))
    for index, reencoded in enumerate(reencodes):
        if reencoded and index >= first:
            raise ConfigurationError(
                f"Stage {index + 1} re-encodes its solution, and stage {first + 1} has tuned the generator: the "
                "range it would be fitted to is that of the pretrained weights.",
                hint=f"Set reencode.steps=0 from stage {first + 1} on, or tune in the last stage.",
            )
