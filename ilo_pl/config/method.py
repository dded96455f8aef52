"""What is searched: a method file and what follows an image, typed.

Every key of a search is a column: one value for all stages, or a list of one per stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag

from ilo_pl.config.outside import OutsideConfig, OutsideMethod
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.sampling_spec import Sampling
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.stage_spec import (
    Count,
    NonNegative,
    Proximal,
    Rate,
    Reencode,
    SplitNumber,
    Stage,
    VariableKind,
)
from ilo_pl.spec import Name, Spec, Whole

MAX_RATE = 1000
KINDS: tuple[VariableKind, ...] = ("hidden", "latents", "noises")

T = TypeVar("T")


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _tag(value: Any) -> str:
    return "list" if _listed(value) else "one"


# What is wrong with a list is not explained by what one value would have to be, and the other way round.
Column = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Tag("list")], Discriminator(_tag)
]
Splits = Annotated[tuple[SplitNumber, ...], Field(min_length=1)]


class BallColumns(Spec):
    """Radii of the l1 balls, as columns of :class:`~ilo_pl.inversion.stage_spec.Radii`."""

    hidden: Column[NonNegative | None] = None
    latents: Column[NonNegative | None] = None
    noises: Column[NonNegative | None] = None


class RadiiColumns(BallColumns):
    """The same with their unit."""

    unit: Column[Literal["mean", "l1"]] = "mean"


class LrScaleColumns(Spec):
    """Columns of :class:`~ilo_pl.inversion.stage_spec.LrScale`."""

    hidden: Column[NonNegative] = 1.0
    latents: Column[NonNegative] = 1.0
    noises: Column[NonNegative] = 1.0
    weights: Column[NonNegative] = 0.02


class TuneColumns(Spec):
    """Columns of :class:`~ilo_pl.inversion.stage_spec.Tune`."""

    weights: Column[Literal["none", "all", "kernels"]] = "none"
    radius: Column[NonNegative | None] = None


class SphereColumns(Spec):
    """Columns of :class:`~ilo_pl.inversion.stage_spec.Sphere`."""

    latents: Column[bool] = False
    noises: Column[bool] = False
    radius: Column[Literal["sqrt_dim", "start"]] = "sqrt_dim"


class ReencodeColumns(Spec):
    """Columns of :class:`~ilo_pl.inversion.stage_spec.Reencode`."""

    steps: Column[Count] = 0
    lr: Column[Rate] = 0.1


class DeviationKeys(Proximal):
    """Proximal stages behind the others; see :class:`~ilo_pl.inversion.stage_spec.Proximal`.

    Args:
        steps: proximal steps of each; 0: none.
        rounds: how many; before each but the first the last stage is searched again, with the deviation in
            its place.
    """

    steps: Count = 0
    rounds: Annotated[Whole, Field(ge=1, le=1000)] = 1


class PosteriorKeys(Sampling):
    """A stage behind the others that samples, at the last split; see :class:`~ilo_pl.inversion.sampling_spec.Sampling`.

    Args:
        samples: how many are kept of each image; 0: none are drawn.
    """

    samples: Annotated[Whole, Field(ge=0, le=10**4)] = 0


class SearchMethod(Spec):
    """A method file of the engine; :class:`Stage` and :class:`Schedule` explain the keys and bound them.

    Args:
        name: how reports call it.
        splits: where the generator is cut in each stage; every list among the others is as long.

    Raises:
        ConfigurationError: a list has another length than ``splits``, or a value cannot be used.
    """

    name: Name
    splits: Splits
    steps: Column[Count]
    rounds: Column[Whole] = 1
    lr: Column[Rate] = 0.1
    lr_scale: LrScaleColumns = LrScaleColumns()
    lr_schedule: Column[Literal["cosine", "one_cycle_drop"]] = "cosine"
    ramp_up: Column[float] = 0.05
    ramp_down: Column[float] = 0.75
    free_noises: Column[Count] = 5
    radii: RadiiColumns = RadiiColumns()
    sphere: SphereColumns = SphereColumns()
    tune: TuneColumns = TuneColumns()
    reencode: ReencodeColumns = ReencodeColumns()
    # By the loss's name a column of weights, or a mapping of them and the loss's options.
    losses: Mapping[str, Any] = Field(default_factory=lambda: {"mse": 1.0})
    sna: Column[NonNegative | Literal["measured"]] = 0.0
    deviation: DeviationKeys = DeviationKeys()
    posterior: PosteriorKeys = PosteriorKeys()
    latent_space: str = "v"
    latent_layout: Literal["shared", "per_slot"] = "per_slot"
    init: Literal["random", "mean"] = "random"
    noise_start: Literal["stored", "random"] = "stored"
    carry_skip: bool = True
    hand_over: Literal["best", "last"] = "best"
    validation: float = 0.0
    judge: Literal["losses", "mse"] = "losses"
    result: Literal["last", "best"] = "last"

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a method that is no schedule."""
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        """The method as a schedule."""
        return _unroll(self.model_dump(), "method")

    def following(self, follow: FollowFrames) -> Schedule:
        """Return what an image is searched with that starts from the solution of the one before.

        Args:
            follow: what is otherwise than in the method, of whose lists the last value counts.

        Raises:
            ConfigurationError: both do not go together.
        """
        last = {key: last_value(value) for key, value in self.model_dump().items()}
        other = follow.model_dump(exclude={"name", "rate"})
        radii = {**last["radii"], **other["radii"]}
        # The start lies at the split itself: no range is known before it, to be re-encoded into.
        reencode = {**last["reencode"], "steps": 0}
        return _unroll({**last, **other, "radii": radii, "reencode": reencode}, "follow")


def _kind(method: Any) -> str:
    outside = isinstance(method, OutsideMethod) or (
        isinstance(method, Mapping) and "outside" in method
    )
    return "outside the engine" if outside else "search"


MethodConfig = Annotated[
    Annotated[SearchMethod, Tag("search")] | Annotated[OutsideConfig, Tag("outside the engine")],
    Discriminator(_kind),
]


class FollowNone(Spec):
    """Every image by itself."""

    name: Literal["none"] = "none"


class FollowFrames(Spec):
    """Each image starts from the solution of the one before; ``configs/follow/frames.yaml`` explains the keys."""

    name: Literal["frames"]
    rate: Annotated[float, Field(gt=0, le=MAX_RATE)] | None = None
    splits: Splits
    steps: Column[Count]
    lr: Column[Rate]
    free_noises: Column[Count]
    radii: BallColumns = BallColumns()


FollowConfig = Annotated[FollowNone | FollowFrames, Field(discriminator="name")]


def last_value(column: Any) -> Any:
    """Return what holds in the last stage: of a list the last value, of a mapping that of each key."""
    if isinstance(column, Mapping):
        return {key: last_value(inner) for key, inner in column.items()}
    return column[-1] if _listed(column) and column else column


def _unroll(columns: Mapping[str, Any], group: str) -> Schedule:
    """Return the schedule of columns, which are keys of a config group."""
    own = ("name", "splits", "deviation", "posterior")
    rows = {key: value for key, value in columns.items() if key not in own}
    common = {key: rows.pop(key) for key in Schedule.model_fields if key in rows}
    splits = columns["splits"]
    try:
        stages = tuple(
            Stage(split=split, **_stage(rows, i, len(splits), group))
            for i, split in enumerate(splits)
        )
        stages = _with_deviation(stages, columns["deviation"])
        return Schedule(stages=_with_posterior(stages, columns["posterior"]), **common)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"The method cannot be used. {error.what}", choices=error.choices, hint=error.hint
        ) from None


def _with_deviation(stages: tuple[Stage, ...], keys: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the stages with those of the deviation behind them."""
    steps, rounds = keys["steps"], keys["rounds"]
    if not steps:
        return stages
    proximal = Proximal(**{key: keys[key] for key in Proximal.model_fields})
    change = {"solver": "proximal", "steps": steps, "rounds": 1, "proximal": proximal}
    last = stages[-1]
    deviation = last.model_copy(update=change)
    return (*stages, deviation, *((last, deviation) * (rounds - 1)))


def _with_posterior(stages: tuple[Stage, ...], keys: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the stages with the one that samples behind them."""
    if not keys["samples"]:
        return stages
    sampling = Sampling(**keys)
    change = {
        "solver": "sampling",
        "steps": sampling.steps,
        "rounds": 1,
        "sampling": sampling,
        "reencode": Reencode(),
    }
    return (*stages, stages[-1].model_copy(update=change))


def _stage(columns: Mapping[str, Any], i: int, count: int, group: str) -> dict[str, Any]:
    """Return one stage's keys. A single radius holds from the second stage on."""
    picked = _pick(columns, i, count, f"{group}.")
    if i == 0 and count > 1:
        free = {kind: None for kind in KINDS if not _listed(columns["radii"][kind])}
        picked["radii"] |= free
    return picked


def _pick(columns: Mapping[str, Any], i: int, count: int, prefix: str) -> dict[str, Any]:
    picked = {}
    for key, value in columns.items():
        if isinstance(value, Mapping):
            picked[key] = _pick(value, i, count, f"{prefix}{key}.")
        elif _listed(value):
            if len(value) != count:
                raise ConfigurationError(
                    f"{prefix}{key} = {list(value)} has {len(value)} values for {count} stages.",
                    hint=f"Give one value, or one for each of {prefix.partition('.')[0]}.splits.",
                )
            picked[key] = value[i]
        else:
            picked[key] = value
    return picked
