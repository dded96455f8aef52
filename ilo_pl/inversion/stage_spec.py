"""What one stage searches, for how long and how far."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ilo_pl.denoisers import DenoiserName
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import Split
from ilo_pl.inversion.sampling_spec import Sampling
from ilo_pl.spec import Spec

# The split that stands for the image itself, whatever the generator.
IMAGE_SPLIT = -1
Count = Annotated[int, Field(ge=0, le=10**9, strict=True)]
# Bounds that only a slip of the keyboard crosses; beyond them numbers overflow somewhere deep.
Rate = Annotated[float, Field(gt=0, le=1e6)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
SplitNumber = Annotated[int, Field(ge=IMAGE_SPLIT, le=10**9, strict=True)]


def _loss(value: Any) -> Any:
    """Check a loss: a weight, null, or a mapping with ``weight`` and the term's options."""
    weight = value.get("weight", 1.0) if isinstance(value, Mapping) else value
    if weight is None:
        return 0.0
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < inf:
        raise ValueError(
            f"{weight!r} is no weight; give a number from 0 on, 0 leaves the term out."
        )
    return value


def _noise(value: Any) -> Any:
    """Check stochastic noise addition: grey levels or ``measured``."""
    if value == "measured":
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < inf:
        raise ValueError(f"{value!r} is no noise; give grey levels from 0 on, or 'measured'.")
    return float(value)


Loss = Annotated[Any, AfterValidator(_loss)]
VariableKind = Literal["hidden", "latents", "noises"]


class Radii(Spec):
    """Radii of the l1 balls around a stage's start, per image; ``None`` leaves a variable free.

    Args:
        hidden, latents, noises: radius for each kind of variable. All tensors of one kind share one
            ball, so a split state of several tensors has one radius.
        unit: ``mean`` measures a radius per scalar (the l1 norm divided by the number of scalars in
            the ball), so that it carries over between splits and generators; ``l1`` is the norm
            itself, as in the paper.
    """

    hidden: NonNegative | None = None
    latents: NonNegative | None = None
    noises: NonNegative | None = None
    unit: Literal["mean", "l1"] = "mean"

    def absolute(self, kind: VariableKind, numel: int) -> float | None:
        """Return the l1 norm that ``kind`` may move by when it has ``numel`` scalars an image."""
        radius: float | None = getattr(self, kind)
        if radius is None or self.unit == "l1":
            return radius
        return radius * numel


class Sphere(Spec):
    """Which variables are kept on a sphere.

    Args:
        latents, noises: each latent; each noise map.
        radius: ``sqrt_dim``: the square root of the number of scalars, where N(0, 1) lives (PULSE); ``start``:
            every vector along the last axis keeps the length that it has where the stage begins, so that
            of a noise map each row does (the published ILO code).
    """

    latents: bool = False
    noises: bool = False
    radius: Literal["sqrt_dim", "start"] = "sqrt_dim"


class Reencode(Spec):
    """Lines 5 and 6 of Algorithm 1: z' = argmin ||G1(z) - hidden||, then hidden' = G1(z').

    Args:
        steps: gradient steps of that fit; 0 switches it off.
        lr: its peak learning rate.
    """

    steps: Count = 0
    lr: Rate = 0.1


class LrScale(Spec):
    """Factors on the stage's learning rate, per kind of variable."""

    hidden: NonNegative = 1.0
    latents: NonNegative = 1.0
    noises: NonNegative = 1.0
    weights: NonNegative = 0.02


class Tune(Spec):
    """Weights of the generator as variables, of each image its own (IAGAN, arXiv 1906.05284).

    Args:
        weights: ``none``; ``all`` behind the stage's split; of them the ``kernels`` of convolutions alone, tensors
            of four dimensions.
        radius: l2 norm of the relative differences over the square root of their number, which is how far all
            weights together may move from the pretrained ones as a part of their size; ``None`` leaves them free.
    """

    weights: Literal["none", "all", "kernels"] = "none"
    radius: NonNegative | None = None


class Proximal(Spec):
    """How a proximal stage finds the deviation d of an image from the generator's picture, x = G + d.

    Each step moves x to the measurements and takes noise of a falling strength s off it (plug-and-play half
    quadratic splitting; Zhang et al. 2021, arXiv 2008.13751):

        x <- D(argmin over x' of ||A x' - y||^2 / sigma^2 + weight ||x' - x||^2 / s^2, s)

    where sigma is the noise of the measurements; without it x' is the nearest point with A x' = y.

    Args:
        denoiser: D.
        start: s of the first step in 8-bit grey levels; null: by how far the generator is from the measurements.
        end: s of the last step, but never below half of sigma; between them it falls geometrically.
        weight: of x against the measurements.
        keep: how much of the result is the generator's picture, moved to the measurements, and not the last x: a mean
            of both is about as true where they err differently, and has texture. With noise nothing is kept.
    """

    denoiser: DenoiserName = "learned"
    start: Annotated[float, Field(gt=0, le=255)] | None = None
    end: Annotated[float, Field(gt=0, le=255)] = 1.0
    weight: Positive = 0.3
    keep: Annotated[float, Field(ge=0, le=1)] = 0.0


class Stage(Spec):
    """One search.

    Args:
        split: where the generator is cut; 0 searches the latents alone, -1 the image itself.
        steps: gradient steps of each round.
        rounds: how often solving and re-encoding alternate (T of Algorithm 1).
        lr: peak learning rate of Adam.
        lr_scale: factors on it per kind of variable.
        lr_schedule: how the rate moves: ``cosine`` by the ramps below, or ``one_cycle_drop``, PULSE's.
        ramp_up, ramp_down: shares of the steps over which the rate rises linearly and falls as a
            cosine (the published 0.05 and 0.75).
        free_noises: how many noise inputs, counted from the generator's first, are variables; all of
            them when the generator has fewer.
        radii: l1 balls around the stage's start.
        sphere: variables kept on a sphere instead.
        tune: weights of the generator that are variables too.
        reencode: how the solution is re-encoded before what follows; nothing follows the last round
            of the last stage, so it is not re-encoded, and nothing lies before split 0.
        losses: weight of each loss term by name, or a mapping of ``weight`` and the term's options;
            0 or null leaves a term out.
        sna: stochastic noise addition (section 4.2): standard deviation, in 8-bit grey levels, of fresh
            Gaussian noise on the predicted measurements in every step, or ``measured``, that of the
            measurements' own noise.
        solver: ``adam`` descends the losses over the variables; ``proximal`` moves the deviation of the image
            from the generator's picture alone, in proximal steps, for linear operators; ``sampling`` draws from all
            that the measurements leave possible, as the last stage.
        proximal: how those are taken.
        sampling: how is drawn; ``steps`` are as many as that needs.
    """

    split: SplitNumber
    steps: Count
    rounds: Annotated[int, Field(ge=1, le=10**6)] = 1
    lr: Rate = 0.1
    lr_scale: LrScale = LrScale()
    lr_schedule: Literal["cosine", "one_cycle_drop"] = "cosine"
    ramp_up: Annotated[float, Field(ge=0, le=1)] = 0.05
    ramp_down: Annotated[float, Field(ge=0, le=1)] = 0.75
    free_noises: Count = 5
    radii: Radii = Radii()
    sphere: Sphere = Sphere()
    tune: Tune = Tune()
    reencode: Reencode = Reencode()
    losses: Mapping[str, Loss] = Field(default_factory=lambda: {"mse": 1.0}, min_length=1)
    sna: Annotated[Any, AfterValidator(_noise)] = 0.0
    solver: Literal["adam", "proximal", "sampling"] = "adam"
    proximal: Proximal = Proximal()
    sampling: Sampling = Sampling()

    @property
    def tunes(self) -> bool:
        """Whether weights of the generator are variables."""
        return self.tune.weights != "none" and self.lr_scale.weights > 0

    def frees(self, here: Split, there: Split) -> bool:
        """Return whether the stage has a variable between two splits, its own and a later one."""
        scale = self.lr_scale
        return (
            self.solver != "adam"
            or (self.split > 0 and scale.hidden > 0)
            or (here.first_slot < there.first_slot and scale.latents > 0)
            or (here.first_noise < min(self.free_noises, there.first_noise) and scale.noises > 0)
            or (here != there and self.tunes)
        )

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what contradicts itself."""
        for kind in ("latents", "noises"):
            if getattr(self.sphere, kind) and getattr(self.radii, kind) is not None:
                raise ConfigurationError(
                    f"The stage at split {self.split} asks for both a sphere and an l1 ball for "
                    f"{kind}.",
                    hint=f"Set sphere.{kind}=false or radii.{kind}=null.",
                )
