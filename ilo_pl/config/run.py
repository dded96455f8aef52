"""The typed configuration of a run, composed from the YAML groups in ``configs/``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ilo_pl.config.engine import EngineConfig, PlainEngine
from ilo_pl.config.method import FollowConfig, FollowNone, MethodConfig
from ilo_pl.config.outside import OutsideMethod
from ilo_pl.config.trainer import LoggerConfig, TrainerConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.evaluation.further import check_metrics
from ilo_pl.generators.config import GeneratorConfig, Seed
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.operators.config import OperatorSpec
from ilo_pl.operators.noise import NoiseSpec
from ilo_pl.spec import PathText, Spec, path_keys


class TaskConfig(Spec):
    """Which known problem this is; its settings are those of the other groups."""

    name: str


class RunConfig(Spec):
    """Everything one run needs; ``configs/default.yaml`` explains each key."""

    input: PathText | None = None
    output: PathText
    resume: bool = False
    allow_changes: bool = False
    reference: PathText | None = None
    simulate: bool = True
    save_measurements: bool | Literal["auto"] = "auto"
    samples: Annotated[int, Field(ge=1, le=10**6)] = 1
    seed: Seed = 0
    batch_size: Annotated[int, Field(ge=1, le=10**6)] | Literal["auto"] = 1
    compile: bool | Literal["auto", "max-autotune"] = "auto"
    consistency: bool | Literal["auto"] = "auto"
    grain: bool = True
    metrics: tuple[str, ...] = ()
    report: bool = True
    animation: bool = False
    preview: bool = False
    task: TaskConfig
    generator: GeneratorConfig
    operator: OperatorSpec
    noise: NoiseSpec
    method: MethodConfig
    follow: FollowConfig = FollowNone()
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()
    engine: EngineConfig = PlainEngine()

    def model_post_init(self, context: Any, /) -> None:
        """Refuse parts that do not go together."""
        check_metrics(self.metrics, self.reference is not None)
        if isinstance(self.method, OutsideMethod):
            self.method.check(self.operator, self.noise)
        if self.ordered:
            self._check_order()
            _ = self.following

    @property
    def schedule(self) -> Schedule:
        """The method as a schedule.

        Raises:
            ConfigurationError: the method is outside the engine.
        """
        if isinstance(self.method, OutsideMethod):
            raise ConfigurationError(
                f"The method {self.method.name!r} is outside the engine: no schedule."
            )
        return self.method.schedule

    @property
    def ordered(self) -> bool:
        """Whether images after the first start from the one before."""
        return not isinstance(self.follow, FollowNone)

    @property
    def rate(self) -> float | None:
        """Frames per second of the video that is written; ``None``: the input's."""
        return None if isinstance(self.follow, FollowNone) else self.follow.rate

    @property
    def following(self) -> Schedule | None:
        """What images after the first are searched with, from the solution of the one before."""
        if isinstance(self.follow, FollowNone) or isinstance(self.method, OutsideMethod):
            return None
        return self.method.following(self.follow)

    @property
    def outside(self) -> OutsideMethod | None:
        """The method, where it is none of the engine's."""
        return self.method if isinstance(self.method, OutsideMethod) else None

    def _check_order(self) -> None:
        """Refuse what has no order."""
        unordered = {
            f"batch_size = {self.batch_size}": self.batch_size not in (1, "auto"),
            f"method = {self.method.name}": self.outside is not None,
            f"task = {self.task.name}": self.input is None,
        }
        wrong = [key for key, applies in unordered.items() if applies]
        if wrong:
            raise ConfigurationError(
                f"follow = {self.follow.name} starts every image from the one before, which does not go "
                f"with {wrong[0]}.",
                hint="Use batch_size=1, a method of the engine and a task that has an input; or follow=none.",
            )


# Keys of files and folders.
RUN_PATHS = path_keys(RunConfig)
