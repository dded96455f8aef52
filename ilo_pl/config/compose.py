"""Compose the typed configuration of a run from the YAML groups in ``configs/``."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ilo_pl.config.choices import GROUPS, choices, config_dir
from ilo_pl.config.differences import is_free
from ilo_pl.config.keys import check_keys
from ilo_pl.config.method import SearchMethod, last_value
from ilo_pl.config.overrides import Assignment, read_overrides
from ilo_pl.config.run import RUN_PATHS, RunConfig
from ilo_pl.config.saved import is_run, load_run_config
from ilo_pl.errors import ConfigurationError, IloError, unknown
from ilo_pl.generators.config import GeneratorConfig
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.io.measurements import Origin, find_measurements, load_origin
from ilo_pl.operators.config import OPERATORS

EXAMPLE = "For example: ilo-pl invert input=photo.png task=random_inpainting output=results"
NOT_GIVEN = (None, "???")
# Keys that only a run folder has, and what stands in place of its paths where there is none.
OF_FOLDERS = ("input", "output", "reference", "resume", "allow_changes", "follow", "samples")
HANDED_OVER = "(handed over)"


def _below(value: float | None, limit: float, then: Any, otherwise: Any) -> Any:
    """Choose for a number below a limit, or otherwise; in YAML ``${below:${key},limit,then,otherwise}``."""
    return then if value is not None and value < limit else otherwise


OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("last", last_value, replace=True)


def load_config(overrides: Sequence[str]) -> RunConfig:
    """Compose a configuration from overrides ``key=value`` in Hydra's syntax.

    With ``resume=true`` and no key that reaches the results, it is that of the run in ``output``.

    Raises:
        ConfigurationError: an override cannot be parsed, names an unknown key, group or choice, or
            has a value of another type than the key.
    """
    given = read_overrides(overrides, RUN_PATHS)
    began = _folder_to_resume(given)
    if began is not None:
        return _going_on(began, given)
    container = _with_measurements(given)
    tops = {g.key.partition(".")[0]: g.value for g in given}
    if container["operator"]["name"] == "classifier":
        _check_guided(container)
        container["input"] = None
    else:
        _check_measured(container, tops)
    try:
        return RunConfig(**container)
    except ConfigurationError as error:
        raise _with_noises(error, container["generator"]) from None


def load_search_config(overrides: Sequence[str]) -> RunConfig:
    """Compose the configuration of searches without a run folder: images are handed over, results handed back.

    Args:
        overrides: as for :func:`load_config`, without the keys of files and folders.

    Raises:
        ConfigurationError: as there, or a key belongs to a run folder.
    """
    given = read_overrides(overrides, RUN_PATHS)
    for assignment in given:
        if assignment.key.partition(".")[0] in OF_FOLDERS:
            raise ConfigurationError(
                f"{assignment.key} is a key of a run folder, and there is none here: images are handed over, "
                "results handed back.",
                hint=f"Leave {assignment.key} out, or use ilo-pl invert.",
            )
    container = {**_container(given), "input": HANDED_OVER, "output": HANDED_OVER}
    if container["operator"]["name"] == "classifier":
        raise ConfigurationError(
            f"task = {container['task']['name']} has no input, so that there is nothing to hand over.",
            hint="Use ilo-pl invert.",
        )
    try:
        return RunConfig(**container)
    except ConfigurationError as error:
        raise _with_noises(error, container["generator"]) from None


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
        composed = _compose(read_overrides([f"method={name}", f"task={task}"]))
    method = OmegaConf.to_container(composed.method, resolve=True)
    assert isinstance(method, dict)
    if "outside" in method:
        raise ConfigurationError(f"The method {name!r} is outside the engine: no schedule.")
    return SearchMethod(**{**{str(k): v for k, v in method.items()}, **columns}).schedule


def is_outside(name: str) -> bool:
    """Return whether a file of ``configs/method`` is of a method outside the engine."""
    path = config_dir() / "method" / f"{name}.yaml"
    return path.is_file() and "outside" in OmegaConf.load(path)


# ---- a run that goes on ----------------------------------------------------------------------------


def _folder_to_resume(given: Sequence[Assignment]) -> Path | None:
    """Return the folder of the run that is to go on as it was begun, if nothing else is asked for."""
    values = {g.key: g.value for g in given}
    output = values.get("output")
    if values.get("resume") is not True or not isinstance(output, str):
        return None
    folder = Path(output)
    return folder if is_run(folder) and all(is_free(key) for key in values) else None


def _going_on(folder: Path, given: Sequence[Assignment]) -> RunConfig:
    """Return the configuration of the run in a folder, with what a resumed run may have otherwise."""
    saved, now = load_run_config(folder).model_dump(), _container(given)
    for assignment in given:
        group, _, rest = assignment.key.partition(".")
        if rest:
            saved[group] = {**saved[group], rest: now[group][rest]}
        else:
            saved[group] = now[group]
    return RunConfig(**saved)


# ---- what is given and what is not -----------------------------------------------------------------


def _check_guided(container: Mapping[str, Any]) -> None:
    """Refuse a generation towards a class without one, or with an input."""
    if container["operator"]["target"] == "???":
        raise ConfigurationError(
            "operator.target must be given: the class to generate.",
            hint="For example: ilo-pl invert task=ood_generation operator.target=espresso output=results",
        )
    if container["output"] in NOT_GIVEN:
        raise ConfigurationError("output must be given.", hint=EXAMPLE)
    if container["input"] not in NOT_GIVEN:
        raise ConfigurationError(
            "A classifier measures no image, so that there is no input.",
            hint="Leave input= out; samples=4 starts from four random faces.",
        )


def _check_measured(container: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a run without input or output, or with what only a run without input has."""
    missing = [k for k in ("input", "output") if container[k] in NOT_GIVEN]
    if missing:
        goes_on = "With output= and resume=true alone, the run in that folder goes on as it began."
        raise ConfigurationError(
            f"{' and '.join(missing)} must be given.",
            hint=f"{EXAMPLE}\n{goes_on}" if container["resume"] is True else EXAMPLE,
        )
    if "samples" in given:
        raise ConfigurationError(
            f"samples={given['samples']} cannot be given here: as many images come out as go in.",
            hint="It is a key of task=ood_generation, which has no input.",
        )


def _with_noises(error: ConfigurationError, generator: Any) -> ConfigurationError:
    """Return an error about noise inputs with how many there are."""
    if "free_noises" not in error.what:
        return error
    try:
        made = GeneratorConfig(**generator)
        count = len(made.make(imports=True).noise_shapes)
    except IloError:
        return error  # one thing after the other
    hint = f"{error.hint} The generator {made.name} has {count} noise inputs.".strip()
    return ConfigurationError(error.what, choices=error.choices, hint=hint)


def _with_measurements(given: Sequence[Assignment]) -> dict[str, Any]:
    """Compose a configuration; files of measurements at its input say what the user does not."""
    tops = {g.key.partition(".")[0]: g.value for g in given}
    place = tops.get("input")
    saved = find_measurements(Path(place)) if isinstance(place, str) else {}
    if not saved:
        return _container(given)
    origin = load_origin(next(iter(saved.values())))[1]
    named = "task" in tops or origin.task not in choices("task")
    task = [] if named else read_overrides([f"task={origin.task}"])
    return adopt(_container([*given, *task]), origin, tops)


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


# ---- Hydra -----------------------------------------------------------------------------------------


def _container(given: Sequence[Assignment]) -> dict[str, Any]:
    """Compose a configuration and resolve what its values refer to."""
    try:
        container = OmegaConf.to_container(_compose(given), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason = (
            "keys refer to each other in a circle" if isinstance(error, RecursionError) else error
        )
        raise ConfigurationError(
            f"The configuration cannot be resolved: {str(reason).splitlines()[0]}.",
            hint="A dollar sign with braces refers to another key.",
        ) from None
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


def _compose(given: Sequence[Assignment]) -> DictConfig:
    with initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        picks = {g.key: g.value for g in given if g.key in GROUPS}
        for group, pick in picks.items():
            if pick not in choices(group):
                raise unknown(group, str(pick), choices(group))
        if "operator" in picks and "task" not in picks:
            raise ConfigurationError(
                f"operator={picks['operator']} needs the task that it belongs to.",
                choices=choices("task"),
                hint=f"For example task={OPERATORS[picks['operator']].task} operator={picks['operator']}.",
            )
        base = compose("default", [f"{group}={pick}" for group, pick in picks.items()])
        check_keys([g for g in given if g.key not in picks], base)
        try:
            composed: DictConfig = compose("default", [g.text for g in given])
        except (HydraException, OmegaConfBaseException) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"The configuration cannot be composed: {str(cause).splitlines()[0]}"
            ) from None
        return composed
