"""The typed configuration of a run, composed from the YAML groups in ``configs/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field
from yaml import YAMLError

from ilo_pl.classical import OutsideMethod, outside_method
from ilo_pl.columns import following, last_value, schedule_from_columns
from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.generators.config import GeneratorConfig, Seed
from ilo_pl.groups import TASK_OF, check_keys, choices, config_dir
from ilo_pl.measurements import adopt, find_measurements, load_origin
from ilo_pl.measuring import OperatorSpec
from ilo_pl.noise import NoiseSpec
from ilo_pl.overrides import parse_override
from ilo_pl.schedule import Schedule
from ilo_pl.specs import Spec
from ilo_pl.trainer_specs import LoggerConfig, TrainerConfig


def _below(value: float | None, limit: float, then: Any, otherwise: Any) -> Any:
    """Choose for a number below a limit, or otherwise; in YAML ``${below:${key},limit,then,otherwise}``."""
    return then if value is not None and value < limit else otherwise


OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("last", last_value, replace=True)

GROUPS = ("generator", "operator", "noise", "task", "method", "follow", "trainer", "logger")
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


def load_config(overrides: Sequence[str]) -> RunConfig:
    """Compose a configuration from overrides ``key=value`` in Hydra's syntax.

    Raises:
        ConfigurationError: an override cannot be parsed, names an unknown key, group or choice, or
            has a value of another type than the key.
    """
    parsed = [parse_override(o) for o in overrides]
    given = {p.key_or_group.partition(".")[0]: p.value() for p in parsed}
    place = given.get("input")
    saved = find_measurements(Path(place)) if isinstance(place, str) else {}
    if saved:
        origin = load_origin(next(iter(saved.values())))[1]
        task = [] if "task" in given or origin.task not in choices("task") else [origin.task]
        container = adopt(_container([*overrides, *(f"task={t}" for t in task)]), origin, given)
    else:
        container = _container(overrides)
    guided = container["operator"]["name"] == "classifier"
    needed = ("output",) if guided else ("input", "output")
    missing = [k for k in needed if container.get(k) in (None, "???")]
    if guided and container["operator"]["target"] == "???":
        raise ConfigurationError(
            "operator.target must be given: the class to generate.",
            hint="For example: ilo-pl invert task=ood_generation operator.target=espresso output=results",
        )
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} must be given.",
            hint="For example: ilo-pl invert input=photo.png task=random_inpainting output=results",
        )
    if guided and container.get("input") not in (None, "???"):
        raise ConfigurationError(
            "A classifier measures no image, so that there is no input.",
            hint="Leave input= out; samples=4 starts from four random faces.",
        )
    if "samples" in given and not guided:
        raise ConfigurationError(
            f"samples={given['samples']} cannot be given here: as many images come out as go in.",
            hint="It is a key of task=ood_generation, which has no input.",
        )
    config = RunConfig(**{**container, "input": None} if guided else container)
    if not isinstance(config.method.get("name"), str):
        raise ConfigurationError(f"method.name = {config.method.get('name')!r} is not a name.")
    if config.outside:
        config.outside.check(config.operator, config.noise)
    else:
        try:
            _ = config.schedule, config.following
        except ConfigurationError as error:
            raise _with_noises(error, config.generator) from None
    if config.ordered:
        _check_sequence(config)
    return config


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


def _with_noises(error: ConfigurationError, config: GeneratorConfig) -> ConfigurationError:
    """Return an error about noise inputs with how many there are."""
    if "free_noises" not in error.what:
        return error
    count = len(config.make(imports=True).noise_shapes)
    hint = f"{error.hint} The generator {config.name} has {count} noise inputs.".strip()
    return ConfigurationError(error.what, choices=error.choices, hint=hint)


def _container(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration and resolve what its values refer to."""
    try:
        container = OmegaConf.to_container(_compose(overrides), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(
            f"The configuration cannot be resolved: {str(error).splitlines()[0]}.",
            hint="A dollar sign with braces refers to another key.",
        ) from None
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


def load_run_config(folder: Path) -> RunConfig:
    """Return the configuration that a run folder was made with.

    Raises:
        ConfigurationError: the folder holds none.
    """
    path = folder / "config.yaml"
    try:
        container = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigurationError(
            f"{path} cannot be read as the configuration of a run: {error}.",
            hint="Give the folder that a run wrote, the one with config.yaml in it.",
        ) from None
    if not isinstance(container, dict):
        raise ConfigurationError(f"{path} is not the configuration of a run.")
    return RunConfig(**{str(key): value for key, value in container.items()})


def load_method(name: str, task: str | None = None, **columns: Any) -> Schedule:
    """Return a shipped method as a schedule, with some of its keys replaced.

    Args:
        name: a file of ``configs/method``.
        task: a file of ``configs/task``, to do what the method does otherwise in that task.
        columns: keys of the method with other values, one or one per stage.

    Raises:
        ConfigurationError: there is no such method, task or key.
    """
    if name not in choices("method"):
        raise unknown("method", name, choices("method"))
    if task is None:
        with initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
            composed = compose(f"method/{name}")
    else:
        composed = _compose([f"method={name}", f"task={task}"])
    method = OmegaConf.to_container(composed.method, resolve=True)
    assert isinstance(method, dict)
    return schedule_from_columns({**{str(k): v for k, v in method.items()}, **columns})


def _compose(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        parsed = [parse_override(text) for text in overrides]
        picks = {p.key_or_group: p.value() for p in parsed if p.key_or_group in GROUPS}
        for group, pick in picks.items():
            if pick not in choices(group):
                raise unknown(group, str(pick), choices(group))
        if "operator" in picks and "task" not in picks:
            raise ConfigurationError(
                f"operator={picks['operator']} needs the task that it belongs to.",
                choices=choices("task"),
                hint=f"For example task={TASK_OF[picks['operator']]} operator={picks['operator']}.",
            )
        base = compose("default", [f"{g}={p}" for g, p in picks.items()])
        check_keys([p.key_or_group for p in parsed if p.key_or_group not in picks], base)
        try:
            composed: DictConfig = compose("default", list(overrides))
        except (ConfigCompositionException, OmegaConfBaseException) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"The configuration cannot be composed: {str(cause).splitlines()[0]}"
            ) from None
        return composed
