"""Typed specifications whose errors name the key, the value and the nearest valid keys."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Strict, ValidationError

from ilo_pl.errors import ConfigurationError, nearest

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
            raise _explain(type(self), error) from None

    # pydantic would call an overridden __init__ for nested specifications too, and the path to the
    # wrong key would be lost; this is how its own base class says not to.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def _explain(spec: type[BaseModel], error: ValidationError) -> ConfigurationError:
    lines, hints = [], []
    for problem in error.errors():
        path = ".".join(str(part) for part in _without_tag(spec, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"There is no key {path!r}.")
            close = nearest(str(problem["loc"][-1]), _keys(spec, problem["loc"][:-1]))
            if close:
                hints.append(f"Did you mean {' or '.join(repr(c) for c in close)}?")
        elif problem["type"] == "missing":
            lines.append(f"The key {path!r} is missing.")
        elif problem["type"] == "value_error":
            lines.append(f"{path + ': ' if path else ''}{problem['ctx']['error']}")
        else:
            lines.append(f"{path} = {problem['input']!r} cannot be used: {problem['msg']}.")
    return ConfigurationError("\n".join(lines), hint=" ".join(hints))


def _without_tag(spec: type[BaseModel], path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop what pydantic adds to a path to say which member of a tagged union it looked at."""
    field = spec.model_fields.get(str(path[0])) if path else None
    tagged = field is not None and field.discriminator is not None and len(path) > 1
    return (path[0], *path[2:]) if tagged else path


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


def _tags(spec: type[BaseModel]) -> tuple[Any, ...]:
    name = spec.model_fields.get("name")
    return get_args(name.annotation) if name is not None else ()
