"""Compose the typed configuration of a run from the YAML groups in ``configs/``."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ilo_pl.config.choices import check_keys, choices, config_dir
from ilo_pl.config.method import last_value, schedule_from_columns
from ilo_pl.config.overrides import parse_override
from ilo_pl.config.run import RunConfig, _check_sequence
from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.io.measurements import Origin, find_measurements, load_origin
from ilo_pl.operators.config import OPERATORS

GROUPS = ("generator", "operator", "noise", "task", "method", "follow", "trainer", "logger")


def _below(value: float | None, limit: float, then: Any, otherwise: Any) -> Any:
    """Choose for a number below a limit, or otherwise; in YAML ``${below:${key},limit,then,otherwise}``."""
    return then if value is not None and value < limit else otherwise


OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("last", last_value, replace=True)


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
                hint=f"For example task={OPERATORS[picks['operator']].task} operator={picks['operator']}.",
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


def adopt(config: Mapping[str, Any], origin: Origin, given: Container[str]) -> dict[str, Any]:
    """Return a configuration with what files of measurements say where the user said nothing.

    Args:
        config: the configuration as composed.
        origin: how the measurements at its input were made.
        given: the top keys that the user set.

    Raises:
        ConfigurationError: the measurements were to be simulated.
    """
    if "simulate" in given and config["simulate"] is True:
        raise ConfigurationError(
            f"simulate=true, but {config['input']} holds measurements, which are not measured again.",
            hint="Leave simulate out, or give the pictures that they were made from.",
        )
    adopted = {**config, "simulate": False}
    if "noise" not in given:
        adopted["noise"] = origin.noise
    if "seed" not in given:
        adopted["seed"] = origin.seed
    # A task that measures otherwise is a contradiction, which the comparison with the files reports.
    same = config["operator"].get("name") == origin.operator.get("name")
    if "operator" not in given and (same or "task" not in given):
        adopted["operator"] = origin.operator
    return adopted
