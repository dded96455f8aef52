"""The typed configuration of a run, composed from the YAML groups in ``configs/``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ilo_pl.config.method import (
    OutsideMethod,
    following,
    outside_method,
    schedule_from_columns,
)
from ilo_pl.config.trainer import LoggerConfig, TrainerConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators.config import GeneratorConfig, Seed
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.operators.config import OperatorSpec
from ilo_pl.operators.noise import NoiseSpec
from ilo_pl.spec import Spec

MAX_RATE = 1000


class TaskConfig(Spec):
    """Which known problem this is; its settings are those of the other groups."""

    name: str


class RunConfig(Spec):
    """Everything one run needs; ``configs/default.yaml`` explains each key."""

    input: Annotated[str, Field(min_length=1)] | None = None
    output: Annotated[str, Field(min_length=1)]
    resume: bool = False
    allow_changes: bool = False
    reference: Annotated[str, Field(min_length=1)] | None = None
    simulate: bool = True
    save_measurements: bool | Literal["auto"] = "auto"
    samples: Annotated[int, Field(ge=1, le=10**6)] = 1
    seed: Seed = 0
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    compile: bool | Literal["auto", "max-autotune"] = "auto"
    task: TaskConfig
    generator: GeneratorConfig
    operator: OperatorSpec
    noise: NoiseSpec
    method: dict[str, Any]
    follow: dict[str, Any] = Field(default_factory=lambda: {"name": "none"})
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()

    @property
    def schedule(self) -> Schedule:
        """The method as a schedule."""
        return schedule_from_columns(self.method)

    @property
    def ordered(self) -> bool:
        """Whether images after the first start from the one before."""
        return self.follow.get("name") != "none"

    @property
    def following(self) -> Schedule | None:
        """What images after the first are searched with, from the solution of the one before."""
        if not self.ordered:
            return None
        columns = {key: value for key, value in self.follow.items() if key != "rate"}
        return schedule_from_columns(following(self.method, columns))

    @property
    def outside(self) -> OutsideMethod | None:
        """The method, where it is none of the engine's."""
        return outside_method(self.method)


def _check_sequence(config: RunConfig) -> None:
    """Refuse what has no order, and a rate that is none."""
    rate = config.follow.get("rate")
    if rate is not None and (isinstance(rate, bool | str) or not 0 < rate <= MAX_RATE):
        raise ConfigurationError(
            f"follow.rate = {rate!r}; give frames per second above 0, up to {MAX_RATE}, or null."
        )
    unordered = {
        f"batch_size = {config.batch_size}": config.batch_size not in (1, "auto"),
        f"method = {config.method['name']}": config.outside is not None,
        f"task = {config.task.name}": config.input is None,
    }
    wrong = [key for key, applies in unordered.items() if applies]
    if wrong:
        raise ConfigurationError(
            f"follow = {config.follow['name']} starts every image from the one before, which does not go "
            f"with {wrong[0]}.",
            hint="Use batch_size=1, a method of the engine and a task that has an input; or follow=none.",
        )
