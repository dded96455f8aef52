"""What to search, for how long and how far: the stages of one inversion, and how they unroll.

CSGM, PULSE, Sparse-Gen and ILO are four schedules of the same engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.inversion.stage_spec import IMAGE_SPLIT, Stage
from ilo_pl.inversion.tuning import check_tuning, check_weights
from ilo_pl.spec import Spec


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
        noise_start: noise inputs that are variables begin at the generator's own values (``stored``), and the
            others stay there; or all are drawn from N(0, 1), keyed by image id (``random``), as in the
            published code.
        hand_over: what the next stage starts from: the ``best`` iterate of a stage, or its ``last``, as in
            the published code.
        validation: share of the measurements, drawn by seed and image id, that no stage fits; the best
            iterate is the one that predicts them best. 0 chooses it by the measurements it fits.
        judge: what chooses the best iterate: all measurement losses by their weights (``losses``), or the squared
            error of the measurements alone (``mse``), as in the published code.
        result: return the ``last`` stage's solution, or the one of the ``best`` (lowest) measurement
            loss among all stages, measured with the last stage's losses.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    latent_space: str = "v"
    latent_layout: Literal["shared", "per_slot"] = "per_slot"
    init: Literal["random", "mean"] = "random"
    noise_start: Literal["stored", "random"] = "stored"
    carry_skip: bool = True
    hand_over: Literal["best", "last"] = "best"
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    judge: Literal["losses", "mse"] = "losses"
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
        check_tuning(self.stages, [self.reencodes(i, 0) for i in range(len(self.stages))])
        self._check_sampling()
        if self.total_steps == 0:
            raise ConfigurationError("The schedule has no steps at all.")

    def _check_sampling(self) -> None:
        """Refuse stages that sample where the model of docs/posterior.md does not hold."""
        if all(stage.solver != "sampling" for stage in self.stages):
            return
        *before, stage = self.stages
        problem = ""
        if any(s.solver == "sampling" for s in before) or stage.solver != "sampling":
            problem = "one stage samples, the last"
        elif stage.steps != stage.sampling.steps or stage.rounds > 1:
            problem = f"it has {stage.sampling.steps} steps by its keys, in one round, and is given {stage.steps}"
        elif self.result != "last":
            problem = "its mean is the result: set result=last"
        elif any(s.solver == "proximal" or s.tunes for s in self.stages):
            problem = "it knows nothing of proximal stages and tuned weights: set deviation.steps=0, tune.weights=none"
        elif {s.split for s in before} - {0, stage.split}:
            problem = f"splits are to be 0 and the one that is sampled, and are {[s.split for s in self.stages]}"
        elif stage.split and not (before and before[0].split == 0 and stage.radii.hidden):
            problem = "behind split 0 it needs a search at split 0 and radii.hidden above 0, the mean deviation"
        elif self.latent_space == "w" or not self.carry_skip:
            problem = "latents are to be normal, in v or z, and carry_skip=true"
        if problem:
            raise ConfigurationError(
                f"A stage that samples cannot be used so: {problem}.",
                hint="docs/posterior.md says what is sampled.",
            )

    @property
    def chains(self) -> int:
        """How many entries of a batch an image becomes at most."""
        return self.stages[-1].sampling.chains if self.stages[-1].solver == "sampling" else 1

    @property
    def samples(self) -> int:
        """How many samples are kept of an image."""
        return self.stages[-1].sampling.samples if self.stages[-1].solver == "sampling" else 0

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The schedule unrolled; phases of zero steps are kept, for their transitions."""
        return tuple(self._unroll())

    def _unroll(self) -> Iterator[Phase]:
        for index, stage in enumerate(self.stages):
            for turn in range(stage.rounds):
                yield Phase("solve", index, turn, stage.steps)
                if self.reencodes(index, turn):
                    yield Phase("reencode", index, turn, stage.reencode.steps)

    def reencodes(self, index: int, turn: int) -> bool:
        """Return whether a stage's solution is re-encoded after a round: not where nothing follows."""
        stage = self.stages[index]
        final = index == len(self.stages) - 1 and turn == stage.rounds - 1
        return stage.split > 0 and stage.reencode.steps > 0 and not final

    @property
    def total_steps(self) -> int:
        """Steps of one batch of images, re-encoding included."""
        # As the phases unroll, without unrolling a million rounds.
        solving = sum(stage.steps * stage.rounds for stage in self.stages)
        last = self.stages[-1]
        return solving + sum(
            stage.reencode.steps * (stage.rounds - (stage is last))
            for stage in self.stages
            if stage.split > 0
        )

    def without_deviation(self) -> Schedule:
        """Return the schedule without its proximal stages, or itself where it has none or nothing else."""
        stages = tuple(stage for stage in self.stages if stage.solver != "proximal")
        if not stages or len(stages) == len(self.stages):
            return self
        return self.model_copy(update={"stages": stages})

    @property
    def gradient_steps(self) -> int:
        """Those of them that run the generator and follow a gradient: all but proximal ones."""
        proximal = (s.steps * s.rounds for s in self.stages if s.solver == "proximal")
        return self.total_steps - sum(proximal)

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
            if stage.steps > 0 and not stage.frees(split, generator.splits[-1]):
                raise ConfigurationError(
                    f"Stage {index + 1}, at split {stage.split}, has no variable to search: "
                    f"lr_scale = {stage.lr_scale.model_dump()}.",
                    hint="Give at least one kind of variable that exists there a scale above 0.",
                )
            check_weights(generator, stage)
            self._check_reencoding(index, generator)

    def _check_reencoding(self, index: int, generator: SplitGenerator) -> None:
        """Refuse a re-encoding through a stage that leaves nothing free before this one's split."""
        stage = self.stages[index]
        earlier = [before for before in self.stages[:index] if before.split < stage.split]
        if not earlier or not self.reencodes(index, 0):
            return
        before = earlier[-1]
        if not before.frees(generator.splits[before.split], generator.splits[stage.split]):
            raise ConfigurationError(
                f"Stage {index + 1} re-encodes its solution into the range of the stage at split {before.split}, "
                f"which has no variable to search there: lr_scale = {before.lr_scale.model_dump()}.",
                hint="Give that stage a variable with a scale above 0, or set reencode.steps=0.",
            )
