"""Schedules from method files, in which every key is one value or a column of one per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.stage_spec import Stage
from ilo_pl.operators.config import IdentitySpec, OperatorSpec
from ilo_pl.operators.noise import GaussianNoise, NoiseSpec
from ilo_pl.spec import Spec


def schedule_from_columns(method: Mapping[str, Any]) -> Schedule:
    """Build a schedule from a method file, where every key is one value or a list of one per stage.

    Raises:
        ConfigurationError: a list has another length than ``splits``, or a value cannot be used.
    """
    if "outside" in method:
        raise ConfigurationError(
            f"The method {method['name']!r} is outside the engine: no schedule."
        )
    columns = {key: value for key, value in method.items() if key != "name"}
    splits = columns.pop("splits", None)
    if not isinstance(splits, Sequence) or isinstance(splits, str) or not splits:
        raise ConfigurationError(
            f"method.splits = {splits!r}; give a list of splits, for example [0,1,2,3]."
        )
    common = {k: columns.pop(k) for k in Schedule.model_fields if k != "stages" and k in columns}
    columns["split"] = list(splits)
    try:
        stages = tuple(Stage(**_stage_columns(columns, i, len(splits))) for i in range(len(splits)))
        return Schedule(stages=stages, **common)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"The method cannot be used. {error.what}", choices=error.choices, hint=error.hint
        ) from None


def following(method: Mapping[str, Any], follow: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a method that starts from the solution of the image before.

    Args:
        method: how the first image is searched; of its lists, the last value counts.
        follow: what is otherwise for the others, stage by stage.
    """
    last = {key: last_value(value) for key, value in method.items()}
    return {**last, **{key: _over(last.get(key), value) for key, value in follow.items()}}


def last_value(column: Any) -> Any:
    """Return what holds in the last stage: of a list the last value, of a mapping that of each key."""
    if isinstance(column, Mapping):
        return {key: last_value(inner) for key, inner in column.items()}
    listed = isinstance(column, Sequence) and not isinstance(column, str)
    return column[-1] if listed and column else column


def _over(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _over(old.get(key), value) for key, value in new.items()}}
    return new


def _stage_columns(columns: Mapping[str, Any], i: int, count: int) -> dict[str, Any]:
    """Return one stage's keys. A single radius holds from the second stage on."""
    picked = _pick(columns, i, count, "")
    radii = columns.get("radii")
    if i == 0 and count > 1 and isinstance(radii, Mapping) and isinstance(picked["radii"], dict):
        for kind in ("hidden", "latents", "noises"):
            if isinstance(radii.get(kind), (int, float)) and radii[kind] >= 0:
                picked["radii"][kind] = None
    return picked


def _pick(columns: Mapping[str, Any], i: int, count: int, prefix: str) -> dict[str, Any]:
    picked = {}
    for key, value in columns.items():
        if isinstance(value, Mapping):
            picked[key] = _pick(value, i, count, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if len(value) != count:
                raise ConfigurationError(
                    f"method.{prefix}{key} = {list(value)} has {len(value)} values for {count} stages.",
                    hint="Give one value, or one for each of method.splits.",
                )
            picked[key] = value[i]
        else:
            picked[key] = value
    return picked


class OutsideMethod(Spec):
    """A method file of a method outside the engine.

    Args:
        name: how reports call it.
        outside: which method it is.
    """

    name: str
    outside: Literal["bm3d"]

    def check(self, operator: OperatorSpec, noise: NoiseSpec) -> None:
        """Refuse what BM3D is not made for.

        Raises:
            ConfigurationError: the measurements are not the image plus Gaussian noise of known strength.
        """
        if isinstance(operator, IdentitySpec) and isinstance(noise, GaussianNoise) and noise.sigma:
            return
        raise ConfigurationError(
            "BM3D takes Gaussian noise of known strength off a picture; here the operator is "
            f"{operator.name!r} and the noise {noise.name!r} with sigma = {noise.sigma:g}.",
            hint="Use it with task=denoising noise.sigma=25 (above 0), or another method for this task.",
        )


def outside_method(method: dict[str, Any]) -> OutsideMethod | None:
    """Return the method of a method file when it is outside the engine, else ``None``.

    Raises:
        ConfigurationError: there is no such method outside the engine.
    """
    return OutsideMethod(**method) if "outside" in method else None
