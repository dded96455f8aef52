"""Typed specifications whose errors name the key, the value and the nearest valid keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from pydantic_core import ErrorDetails

from ilo_pl.errors import ConfigurationError, nearest

KeyPath = tuple[int | str, ...]

# true is 1 to Python; in a configuration it is a slip.
Number = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]


class Spec(BaseModel):
    """An immutable specification; unknown and ill-typed keys are errors.

    Raises:
        ConfigurationError: on construction, with every key that cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _explain(type(self), data, error) from None

    # pydantic would call an overridden __init__ for nested specifications too, and the path to the
    # wrong key would be lost; this is how its own base class says not to.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def _explain(
    spec: type[BaseModel], data: Mapping[str, Any], error: ValidationError
) -> ConfigurationError:
    lines: dict[KeyPath, str] = {}
    hints: list[str] = []
    # What the members of a union each say of one value.
    wanted: dict[KeyPath, list[str]] = {}
    for problem in error.errors():
        path, value = _follow(data, problem["loc"])
        kind, ctx = problem["type"], problem.get("ctx", {})
        if kind == "extra_forbidden":
            lines[path] = f"There is no key {_dotted(path)!r}."
            close = nearest(str(path[-1]), _keys(spec, problem["loc"][:-1]))
            if close:
                hints.append(f"Did you mean {' or '.join(repr(c) for c in close)}?")
        elif kind in ("missing", "union_tag_not_found"):
            path = (*path, problem["loc"][-1] if kind == "missing" else "name")
            lines[path] = f"The key {_dotted(path)!r} is missing."
        elif kind == "value_error":
            lines[path] = f"{_dotted(path) + ': ' if path else ''}{ctx['error']}"
        elif kind == "too_short" and any(p[: len(path)] == path for p in wanted):
            continue  # because its items are wrong, which is said already
        else:
            if kind == "union_tag_invalid":
                path, value = (*path, "name"), ctx["tag"]
            wanted.setdefault(path, []).extend(_wanted(problem))
            lines[path] = f"{_dotted(path)} = {value!r} cannot be used: give {_or(wanted[path])}."
    return ConfigurationError("\n".join(lines.values()), hint=" ".join(hints))


def _follow(data: Any, loc: KeyPath) -> tuple[KeyPath, Any]:
    """Return the part of a problem's place that leads through the data, and the value there.

    The rest is what pydantic adds to say which member of a union it looked at.
    """
    path: KeyPath = ()
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return path, data


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _or(words: Sequence[str]) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


KINDS = {
    "bool": ["true", "false"],
    "int": ["a whole number"],
    "float": ["a number"],
    "string": ["text"],
    "tuple": ["a list"],
}


def _wanted(problem: ErrorDetails) -> list[str]:
    """Return what one member of a type takes, in words."""
    kind, ctx = problem["type"], problem.get("ctx", {})
    if kind in ("literal_error", "union_tag_invalid"):
        return re.findall("'([^']*)'", ctx.get("expected", ctx.get("expected_tags", "")))
    if kind == "too_long":
        return [f"a list of at most {ctx['max_length']}, not of {ctx['actual_length']}"]
    if kind == "too_short":
        return [f"a list of at least {ctx['min_length']}, not of {ctx['actual_length']}"]
    words = problem["msg"].removeprefix("Input should be ")
    if words.startswith(("greater", "less")):
        return [f"a number {words}"]
    return KINDS.get(kind.partition("_")[0], [words])


def _keys(spec: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the specification that ``path`` leads to; none if it cannot be followed."""
    for i, part in enumerate(path):
        field = spec.model_fields.get(str(part))
        if field is None:
            continue  # the tag of a union's member, or an index
        models = _models(field.annotation)
        tagged = [model for tag in path[i + 1 :] for model in models if tag in _tags(model)]
        if not tagged and len(models) != 1:
            return []
        spec = (tagged or models)[0]
    return list(spec.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the specifications in a type, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def by_name(annotation: Any) -> dict[str, Any]:
    """Return the specifications of a union by each value that their key ``name`` may have, sorted."""
    found = {str(tag): model for model in _models(annotation) for tag in _tags(model)}
    return dict(sorted(found.items()))


def _tags(spec: type[BaseModel]) -> tuple[Any, ...]:
    name = spec.model_fields.get("name")
    return get_args(name.annotation) if name is not None else ()
