"""What to search, for how long and how far: the stages of one inversion, and how they unroll.

CSGM, PULSE, Sparse-Gen and ILO are four schedules of the same engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
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
    """Which variables are kept on the sphere of radius sqrt(dimension), where N(0, 1) lives."""

    latents: bool = False
    noises: bool = False


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
        reencode: how the solution is re-encoded before what follows; nothing follows the last round
            of the last stage, so it is not re-encoded, and nothing lies before split 0.
        losses: weight of each loss term by name, or a mapping of ``weight`` and the term's options;
            0 or null leaves a term out.
        sna: stochastic noise addition (section 4.2): standard deviation, in 8-bit grey levels, of fresh
            Gaussian noise on the predicted measurements in every step, or ``measured``, that of the
            measurements' own noise.
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
    reencode: Reencode = Reencode()
    losses: Mapping[str, Loss] = Field(default_factory=lambda: {"mse": 1.0}, min_length=1)
    sna: Annotated[Any, AfterValidator(_noise)] = 0.0

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what contradicts itself."""
        for kind in ("latents", "noises"):
            if getattr(self.sphere, kind) and getattr(self.radii, kind) is not None:
                raise ConfigurationError(
                    f"The stage at split {self.split} asks for both a sphere and an l1 ball for "
                    f"{kind}.",
                    hint=f"Set sphere.{kind}=false or radii.{kind}=null.",
                )


@dataclass(frozen=True)
class Phase:
    """A run of steps with one objective: solving a stage, or re-encoding its solution."""

    kind: Literal["solve", "reencode"]
    stage: int
    round: int
    steps: int


class Schedule(Spec):
    """The stages of one inversion, in order.

    Args:
        stages: at least one, splits never decreasing; the first at split 0, unless the task gives a start.
        latent_space: the space that the latents are searched in: z, v (Gaussianised w) or w.
        latent_layout: one latent ``shared`` by all style slots, or one ``per_slot``.
        init: start from ``random`` latents (N(0, 1) keyed by image id) or from their ``mean``.
        carry_skip: whether a new stage takes over the generator's skip connection (StyleGAN2's RGB
            skip) as part of the split state. The published code drops it, so that the image jumps;
            false does as it does.
        validation: share of the measurements, drawn by seed and image id, that no stage fits; the best
            iterate is the one that predicts them best. 0 chooses it by the measurements it fits.
        result: return the ``last`` stage's solution, or the one of the ``best`` (lowest) measurement
            loss among all stages, measured with the last stage's losses.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    latent_space: str = "v"
    latent_layout: Literal["shared", "per_slot"] = "per_slot"
    init: Literal["random", "mean"] = "random"
    carry_skip: bool = True
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    result: Literal["last", "best"] = "last"

    def model_post_init(self, context: Any, /) -> None:
        """Refuse schedules that cannot be walked."""
        splits = [stage.split for stage in self.stages]
        known = [split for split in splits if split != IMAGE_SPLIT]
        if known != sorted(known) or splits[: len(known)] != known:
            raise ConfigurationError(f"Splits must not decrease; got {splits}.")
        if not self.carry_skip and any(stage.reencode.steps for stage in self.stages):
            raise ConfigurationError(
                "carry_skip=false drops what re-encoding would have to fit.",
                hint="Set reencode.steps=0, as in the published code, or carry_skip=true.",
            )
        if self.total_steps == 0:
            raise ConfigurationError("The schedule has no steps at all.")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The schedule unrolled; phases of zero steps are kept, for their transitions."""
        return tuple(self._unroll())

    def _unroll(self) -> Iterator[Phase]:
        for index, stage in enumerate(self.stages):
            for turn in range(stage.rounds):
                yield Phase("solve", index, turn, stage.steps)
                final = index == len(self.stages) - 1 and turn == stage.rounds - 1
                if stage.split > 0 and stage.reencode.steps > 0 and not final:
                    yield Phase("reencode", index, turn, stage.reencode.steps)

    @property
    def total_steps(self) -> int:
        """Gradient steps of one batch of images, re-encoding included."""
        # As the phases unroll, without unrolling a million rounds.
        solving = sum(stage.steps * stage.rounds for stage in self.stages)
        last = self.stages[-1]
        return solving + sum(
            stage.reencode.steps * (stage.rounds - (stage is last))
            for stage in self.stages
            if stage.split > 0
        )

    def resolve(self, generator: SplitGenerator, *, started: bool = False) -> Schedule:
        """Return the schedule with the image's split by its number, checked against a generator.

        Args:
            generator: the generator.
            started: whether the search is given a start, which may lie behind split 0.

        Raises:
            ConfigurationError: the schedule does not fit the generator.
        """
        first = self.stages[0].split
        if first != 0 and not started:
            raise ConfigurationError(
                f"The first stage is at split {first}.",
                hint="The search starts from the latent: put a stage at split 0 first.",
            )
        stages = tuple(
            stage.model_copy(update={"split": generator.last})
            if stage.split == IMAGE_SPLIT
            else stage
            for stage in self.stages
        )
        resolved = self.model_copy(update={"stages": stages})
        resolved._check(generator)
        return resolved

    def _check(self, generator: SplitGenerator) -> None:
        generator.check_space(self.latent_space)
        for index, stage in enumerate(self.stages):
            if self.latent_space == "w" and stage.losses.get("latent_prior"):
                raise ConfigurationError(
                    "The loss 'latent_prior' expects latents that are normal, and those in w are not.",
                    choices=("latent_space=v", "latent_space=z"),
                )
            try:
                split = generator.split(stage.split)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"Stage {index + 1}: {error.what}",
                    choices=error.choices,
                    hint="Set method.splits to those of this generator; keys that are lists, such as "
                    "method.free_noises, have one value for each.",
                ) from None
            scale = stage.lr_scale
            free = (
                (stage.split > 0 and scale.hidden > 0)
                or (split.first_slot < generator.num_slots and scale.latents > 0)
                or (split.first_noise < stage.free_noises and scale.noises > 0)
            )
            if stage.steps > 0 and not free:
                raise ConfigurationError(
                    f"Stage {index + 1}, at split {stage.split}, has no variable to search: "
                    f"lr_scale = {scale.model_dump()}.",
                    hint="Give at least one kind of variable that exists there a scale above 0.",
                )
