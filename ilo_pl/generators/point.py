"""A point of a stage's search space, and the image it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ilo_pl.generators.base import SplitGenerator, State
from ilo_pl.generators.precision import full_precision
from ilo_pl.generators.tuned import run_tuned, unfit_weights, weights_behind

Synthesis = Callable[[State, Tensor, list[Tensor | None], int, int], State]
"""``SplitGenerator.run``, or a faster function that computes the same."""


@dataclass(frozen=True)
class Point:
    """Values of all variables at one split: together they generate an image, x = G + d.

    Args:
        split: where the generator is cut.
        hidden: the split state; ``{}`` at split 0.
        latents: ``(B, n, D)`` with one latent for each slot behind the split, or n = 1 for all.
        noises: noise inputs behind the split that are not the generator's own, by input index, on
            the scale of N(0, 1), each ``(B, 1, h, w)``.
        deviation: d, what the image has beside the generator's picture, ``(B, 3, H, W)``; ``None``: nothing.
        weights: differences of the generator's weights, by the parameter's name, ``(B, *shape)`` in
            units of :func:`~ilo_pl.generators.tuned.unit`; none where they are the generator's own.
    """

    split: int
    hidden: State
    latents: Tensor
    noises: dict[int, Tensor]
    deviation: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor with a name.

        ``hidden.<name>``, ``latents``, ``noises.<index>``, ``deviation`` and ``weights.<name>``.
        """
        for name, value in self.hidden.items():
            yield f"hidden.{name}", value
        yield "latents", self.latents
        for index, value in self.noises.items():
            yield f"noises.{index}", value
        if self.deviation is not None:
            yield "deviation", self.deviation
        for name, value in self.weights.items():
            yield f"weights.{name}", value

    @classmethod
    def from_named(cls, split: int, tensors: dict[str, Tensor]) -> Point:
        """Undo :meth:`named`."""

        def of(kind: str) -> dict[str, Tensor]:
            return {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(f"{kind}.")}

        noises = {int(index): noise for index, noise in of("noises").items()}
        return cls(
            split, of("hidden"), tensors["latents"], noises, tensors.get("deviation"), of("weights")
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Point:
        """Return the point with ``function`` applied to every tensor."""
        return Point(
            self.split,
            {name: function(value) for name, value in self.hidden.items()},
            function(self.latents),
            {index: function(value) for index, value in self.noises.items()},
            None if self.deviation is None else function(self.deviation),
            {name: function(value) for name, value in self.weights.items()},
        )

    def bare(self) -> Point:
        """Return the point of the generator's own picture, without a deviation from it."""
        return replace(self, deviation=None)

    def select(self, i: int) -> Point:
        """Return the point of one image of the batch, as a batch of one that shares its memory."""
        return self.map(lambda t: t[i : i + 1])

    def detach(self) -> Point:
        """Return a copy that shares nothing with this one and is out of differentiation."""
        return self.map(lambda t: t.detach().clone())


def synthesise(
    generator: SplitGenerator,
    point: Point,
    space: str,
    stop: int | None = None,
    run: Synthesis | None = None,
) -> State:
    """Run the generator from a point to a later split; at the last one, the image, the deviation is added.

    Args:
        generator: the generator.
        point: where to start.
        space: latent space of ``point.latents``.
        stop: split to end at; the image by default.
        run: replaces ``generator.run``, but where images have weights of their own.
    """
    here = generator.splits[point.split]
    noises = [point.noises.get(i) for i in range(here.first_noise, len(generator.noise_shapes))]
    stop = generator.last if stop is None else stop
    slots = generator.splits[stop].first_slot - here.first_slot
    latents = point.latents[:, :slots]
    styles = generator.to_styles(latents, space) if latents.numel() else latents
    if latents.shape[1] == 1:
        styles = styles.expand(-1, slots, -1)
    if point.weights:
        inputs = point.hidden, styles, noises, point.split, stop
        state = run_tuned(generator, point.weights, *inputs)
    else:
        state = (run or generator.run)(point.hidden, styles, noises, point.split, stop)
    if stop == generator.last and point.deviation is not None:
        return {"image": state["image"] + point.deviation}
    return state


@torch.no_grad()
def split_state(generator: SplitGenerator, point: Point, space: str, split: int) -> State:
    """Return G1 of a point, the state at a later split, in float32."""
    with full_precision(point.latents.device):
        return synthesise(generator, point, space, split)


def carry(
    generator: SplitGenerator, point: Point, space: str, split: int, keep_skip: bool = True
) -> Point:
    """Express a point at a later split: the same image, seen from a deeper cut.

    The latents and noises that are used up on the way become part of the split state.

    Args:
        generator: the generator.
        point: the point.
        space: latent space of ``point.latents``.
        split: the later split.
        keep_skip: whether the generator's skip connection comes along; the image is another without it.
    """
    if split == point.split:
        return point
    here, there = generator.splits[point.split], generator.splits[split]
    latents = point.latents
    if latents.shape[1] > 1:
        latents = latents[:, there.first_slot - here.first_slot :]
    noises = {i: n for i, n in point.noises.items() if i >= there.first_noise}
    hidden = split_state(generator, point, space, split)
    if not keep_skip:
        skips = generator.skip_states
        hidden = {n: torch.zeros_like(h) if n in skips else h for n, h in hidden.items()}
    # At the last split the image holds the deviation already.
    deviation = None if split == generator.last else point.deviation
    weights = {}
    if point.weights:
        behind = weights_behind(generator, split)
        weights = {name: value for name, value in point.weights.items() if name in behind}
    return Point(split, hidden, latents, noises, deviation, weights)


def segment(generator: SplitGenerator, point: Point, stop: int) -> Point:
    """Return the part of a point's variables that matters before split ``stop``."""
    here, there = generator.splits[point.split], generator.splits[stop]
    latents = point.latents
    if latents.shape[1] > 1:
        latents = latents[:, : there.first_slot - here.first_slot]
    noises = {i: n for i, n in point.noises.items() if i < there.first_noise}
    return Point(point.split, point.hidden, latents, noises, weights=point.weights)


def rejoin(whole: Point, part: Point) -> Point:
    """Return a point with the variables of a :func:`segment` of it, its leading slots and noises, replaced."""
    latents = part.latents
    if whole.latents.shape[1] > latents.shape[1]:
        latents = torch.cat([latents, whole.latents[:, latents.shape[1] :]], 1)
    noises = {**whole.noises, **part.noises}
    return Point(whole.split, part.hidden, latents, noises, whole.deviation, part.weights)


def free_noises(generator: SplitGenerator, point: Point, count: int) -> Point:
    """Add the noise inputs that become free to a point, at the generator's own values.

    Args:
        generator: the generator.
        point: the point.
        count: how many are free, counted from the generator's first; all where it has fewer.
    """
    noises = dict(point.noises)
    count = min(count, len(generator.noise_shapes))
    for index in range(generator.splits[point.split].first_noise, count):
        if index not in noises:
            own = generator.stored_noise(index).to(point.latents.device)
            noises[index] = own.expand(len(point.latents), -1, -1, -1)
    return replace(point, noises=noises)


@torch.no_grad()
def render(generator: SplitGenerator, point: Point, space: str) -> Tensor:
    """Generate the images of a point in float32, eagerly: what is saved and what is compared.

    Returns:
        ``(B, 3, H, W)``, clamped to [-1, 1].
    """
    with full_precision(point.latents.device):
        return synthesise(generator, point, space)["image"].clamp(-1, 1)


@torch.no_grad()
def deviated(generator: SplitGenerator, point: Point, space: str, images: Tensor) -> Point:
    """Return a point that renders given images: its deviation is what they have beside the generator's picture.

    The deviation is rounded to float16's precision, a thousandth of itself, so that files of it are small.
    """
    if point.split == generator.last:  # the images are its variable
        return replace(point, hidden={"image": images}, deviation=None)
    with full_precision(point.latents.device):
        base = synthesise(generator, point.bare(), space)["image"]
    return replace(point, deviation=(images - base).half().float())


def mean_squared_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Return the squared distance of two split states per scalar, for each image ``(B,)``."""
    total = sum((a[name].float() - b[name].float()).square().flatten(1).sum(1) for name in b)
    assert isinstance(total, Tensor)
    return total / sum(value[0].numel() for value in b.values())


def differences(generator: SplitGenerator, point: Point, space: str) -> list[str]:
    """Return in what the names and shapes of a point are not a generator's; empty where they fit.

    Args:
        generator: the generator.
        point: the variables.
        space: their latent space.
    """
    if not 0 <= point.split <= generator.last:
        return [f"they are at split {point.split} of its splits 0 to {generator.last}"]
    found = []
    if space not in generator.latent_spaces:
        found.append(f"space {space!r}, of its {', '.join(generator.latent_spaces)}")
    split = generator.splits[point.split]
    hidden = {name: tuple(value.shape[1:]) for name, value in point.hidden.items()}
    if hidden != {name: tuple(shape) for name, shape in split.shapes.items()}:
        found.append(f"hidden tensors {hidden} for its {dict(split.shapes)} at split {point.split}")
    slots = generator.num_slots - split.first_slot
    latents, size = tuple(point.latents.shape[1:]), generator.latent_size(space)
    if latents not in ((1, size), (slots, size)):
        found.append(f"latents {latents} for its {(slots, size)}")
    if point.deviation is not None and tuple(point.deviation.shape[1:]) != generator.image_shape:
        shape = tuple(point.deviation.shape[1:])
        found.append(f"a deviation {shape} for its images {generator.image_shape}")
    shapes = dict(enumerate(map(tuple, generator.noise_shapes)))
    for index, noise in point.noises.items():
        shape = tuple(noise.shape[1:])
        if shape != shapes.get(index):
            found.append(f"noise {index} {shape} for its {shapes.get(index, 'none')}")
            break
    return found + unfit_weights(generator, point.weights)
