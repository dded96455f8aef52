"""Does a generator keep the contract that the search relies on? One check a promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ilo_pl.generators.base import SplitGenerator, State

# Of images in about [-1, 1]; convolutions round differently in batches of different sizes.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """One promise and whether it is kept.

    Args:
        name: what was tried.
        problem: what is wrong; empty when the check passed.
    """

    name: str
    problem: str

    @property
    def passed(self) -> bool:
        """Whether there was no problem."""
        return not self.problem


@dataclass(frozen=True)
class _Sample:
    """A batch of styles and noises to run the generator with."""

    styles: Tensor
    noises: list[Tensor | None]

    def behind(self, generator: SplitGenerator, k: int) -> tuple[Tensor, list[Tensor | None]]:
        """Return the styles and noises that are used behind a split."""
        split = generator.splits[k]
        return self.styles[:, split.first_slot :], self.noises[split.first_noise :]


def check_generator(generator: SplitGenerator, seed: int = 0) -> Iterator[Check]:
    """Try every promise of :class:`SplitGenerator`, one after the other.

    Args:
        generator: the generator; it is frozen, as a task freezes it.
        seed: seed of the latents and noises.
    """
    generator.freeze()
    checks: dict[str, Callable[[SplitGenerator, _Sample], str]] = {
        "splits are numbered from the latent to the image": _splits,
        "latents become styles of the same shape in every space": _spaces,
        "stored noises have their declared shapes": _noises,
        "split states have their declared shapes": _shapes,
        "G = G2(G1) at every split, bit for bit": _composition,
        "the same input gives the same image, bit for bit": _determinism,
        "an image does not depend on its batch": _batch,
        "gradients reach every variable": _gradients,
    }
    for name, check in checks.items():
        try:
            problem = check(generator, _sample(generator, seed))
        except Exception as error:
            # The generator is somebody else's code.
            problem = f"{type(error).__name__}: {error}"
        yield Check(name, problem)


def _sample(generator: SplitGenerator, seed: int, batch: int = 2) -> _Sample:
    rng = torch.Generator().manual_seed(seed)
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).to(device)

    space = generator.latent_spaces[0]
    latents = normal(batch, generator.num_slots, generator.latent_size(space))
    styles = generator.to_styles(generator.from_normal(latents, space), space)
    return _Sample(styles.detach(), [normal(batch, *s) for s in generator.noise_shapes])


@torch.no_grad()
def _whole(generator: SplitGenerator, sample: _Sample) -> Tensor:
    return generator.run({}, sample.styles, sample.noises)["image"]


def _splits(generator: SplitGenerator, sample: _Sample) -> str:
    first, last = generator.splits[0], generator.splits[-1]
    if first.shapes or (first.first_slot, first.first_noise) != (0, 0):
        return "split 0 must have no state and start at slot 0 and noise 0"
    if set(last.shapes) != {"image"} or len(last.shapes["image"]) != 3:
        return f"the last split must be one tensor 'image' of shape (C, H, W), not {last.shapes}"
    ends = (generator.num_slots, len(generator.noise_shapes))
    if (last.first_slot, last.first_noise) != ends:
        return f"the last split must start behind all slots and noises, {ends}"
    for before, behind in zip(generator.splits, generator.splits[1:], strict=False):
        if (
            behind.first_slot < before.first_slot or behind.first_noise < before.first_noise
        ):  # a block that uses none is fine
            return f"{behind.name} starts at an earlier slot or noise than {before.name}"
    return ""


def _spaces(generator: SplitGenerator, sample: _Sample) -> str:
    if not generator.latent_spaces:
        return "there is no latent space"
    shape = sample.styles.shape
    for space in generator.latent_spaces:
        size = (*shape[:2], generator.latent_size(space))
        for value in (0.0, 1.0):
            latents = generator.from_normal(sample.styles.new_full(size, value), space)
            styles = generator.to_styles(latents, space)
            if latents.shape != size or styles.shape != shape:
                return f"{space}: {size} became {tuple(styles.shape)}"
            if not torch.isfinite(styles).all():
                return f"{space}: styles are not finite"
    return ""


def _noises(generator: SplitGenerator, sample: _Sample) -> str:
    for index, shape in enumerate(generator.noise_shapes):
        found = tuple(generator.stored_noise(index).shape)
        if found != (1, *shape):
            return f"noise {index} has shape {found} in place of {(1, *shape)}"
    return ""


def _states(generator: SplitGenerator, sample: _Sample) -> Iterator[tuple[int, State]]:
    for k in range(1, generator.last + 1):
        with torch.no_grad():
            yield k, generator.run({}, sample.styles, sample.noises, 0, k)


def _shapes(generator: SplitGenerator, sample: _Sample) -> str:
    for k, state in _states(generator, sample):
        found = {name: tuple(value.shape[1:]) for name, value in state.items()}
        if found != dict(generator.splits[k].shapes):
            return f"split {k}: {found} in place of {dict(generator.splits[k].shapes)}"
        if not all(torch.isfinite(value).all() for value in state.values()):
            return f"split {k}: the state is not finite"
    return ""


def _composition(generator: SplitGenerator, sample: _Sample) -> str:
    whole = _whole(generator, sample)
    for k, state in _states(generator, sample):
        with torch.no_grad():
            image = generator.run(state, *sample.behind(generator, k), k)["image"]
        if not torch.equal(image, whole):
            worst = float((image - whole).abs().max())
            return f"split {k}: images differ by up to {worst:.2g}"
    return ""


def _determinism(generator: SplitGenerator, sample: _Sample) -> str:
    if torch.equal(_whole(generator, sample), _whole(generator, sample)):
        return ""
    return "two runs differ: something is drawn at random, or a state is kept between runs"


def _batch(generator: SplitGenerator, sample: _Sample) -> str:
    whole = _whole(generator, sample)
    first = _Sample(sample.styles[:1], [n[:1] for n in sample.noises if n is not None])
    worst = float((_whole(generator, first) - whole[:1]).abs().max())
    if worst <= TOLERANCE * max(1.0, float(whole.abs().max())):
        return ""
    return f"alone, an image differs by up to {worst:.2g} from itself beside another"


def _gradients(generator: SplitGenerator, sample: _Sample) -> str:
    for k in range(generator.last):
        state: State = {}
        if k:
            with torch.no_grad():
                state = generator.run({}, sample.styles, sample.noises, 0, k)
        behind, fixed = sample.behind(generator, k)
        state = {name: value.detach().requires_grad_() for name, value in state.items()}
        styles = behind.detach().clone().requires_grad_()
        noises = [n.clone().requires_grad_() for n in fixed if n is not None]
        energy = generator.run(state, styles, list(noises), k)["image"].square().sum()
        if not energy.requires_grad:
            return f"split {k}: no gradient reaches anything"
        variables = [*state.values(), styles, *noises]
        grads = torch.autograd.grad(energy, variables, allow_unused=True)
        names = [*state, "the styles", *(f"noise {i}" for i in range(len(noises)))]
        for name, variable, grad in zip(names, variables, grads, strict=True):
            if problem := _problem(name, variable, grad):
                return f"split {k}: {problem}"
    return ""


def _problem(name: str, variable: Tensor, grad: Tensor | None) -> str:
    """Say what is wrong with the gradient of a variable, if anything is."""
    if not variable.numel():
        return ""
    if grad is None:
        return f"no gradient reaches {name}"
    if not torch.isfinite(grad).all():
        return f"the gradient of {name} is not finite"
    if name == "the styles":
        unused = [str(i) for i, used in enumerate(grad.abs().sum((0, 2)).tolist()) if not used]
        return f"the gradient of style slots {', '.join(unused)} is zero" if unused else ""
    # A noise may have strength zero in a trained network, so there only the path counts.
    return "" if name.startswith("noise ") or grad.any() else f"the gradient of {name} is zero"
