"""Typed specifications whose errors name the key, the value and the nearest valid keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, Tag, ValidationError
from pydantic_core import ErrorDetails

from ilo_pl.errors import ConfigurationError, nearest, shown

KeyPath = tuple[int | str, ...]

# true is 1 to Python; in a configuration it is a slip.
Number = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]


class IsPath:
    """Marks text that names a file or a folder: it is compared as such, and never read as a number."""


PathText = Annotated[str, Field(min_length=1), IsPath()]


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name.")
    return value


Name = Annotated[str, BeforeValidator(_name)]


class _Explaining(type(BaseModel)):  # type: ignore[misc]
    """Turns what is wrong with a specification that is called into an error for people.

    pydantic builds nested specifications without calling their classes, so that the error of the outermost
    one has the whole path to the wrong key.
    """

    def __call__(cls, /, **data: Any) -> Any:
        try:
            return super().__call__(**data)
        except ValidationError as error:
            raise _explained(cls, data, error) from None


if TYPE_CHECKING:
    # What a class of a metaclass of its own is to a type checker: a model like any other.
    _Model = BaseModel
else:

    class _Model(BaseModel, metaclass=_Explaining):
        """A model whose construction explains itself."""


class Spec(_Model):
    """An immutable specification; unknown and ill-typed keys are errors.

    Raises:
        ConfigurationError: on construction, with every key that cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _explained(
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
                path, value = (*path, ctx["discriminator"].strip("'")), ctx["tag"]
            wanted.setdefault(path, []).extend(_wanted(problem))
            lines[path] = (
                f"{_dotted(path)} = {shown(value)} cannot be used: give {_or(wanted[path])}."
            )
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
    "dict": ["keys in braces"],
    "mapping": ["keys in braces"],
    "model": ["keys in braces"],
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
        members = _members(field.annotation)
        tagged = [m for tag in path[i + 1 :] for m, tags in members if tag in (*tags, *_names(m))]
        if not tagged and len(members) != 1:
            return []
        spec = tagged[0] if tagged else members[0][0]
    return list(spec.model_fields)


def _members(
    annotation: Any, tags: tuple[str, ...] = ()
) -> list[tuple[type[BaseModel], tuple[str, ...]]]:
    """Return the specifications in a type, however deep, with the tags that a union has for them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, tags)]
    named = tuple(m.tag for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Tag))
    return [member for inner in get_args(annotation) for member in _members(inner, named or tags)]


def by_name(annotation: Any) -> dict[str, Any]:
    """Return the specifications of a union by each value that their key ``name`` may have, sorted."""
    found = {str(tag): model for model, _ in _members(annotation) for tag in _names(model)}
    return dict(sorted(found.items()))


def _names(spec: type[BaseModel]) -> tuple[Any, ...]:
    name = spec.model_fields.get("name")
    return get_args(name.annotation) if name is not None else ()


def path_keys(spec: type[BaseModel], prefix: str = "") -> frozenset[str]:
    """Return the dotted keys of a specification that name files or folders, also those within lists."""
    found: set[str] = set()
    for name, field in spec.model_fields.items():
        if _is_path(field.annotation, field.metadata):
            found.add(f"{prefix}{name}")
        for model, _ in _members(field.annotation):
            found |= path_keys(model, f"{prefix}{name}.")
    return frozenset(found)


def _is_path(annotation: Any, metadata: Sequence[Any] = ()) -> bool:
    marked = any(
        isinstance(m, IsPath) for m in (*metadata, *getattr(annotation, "__metadata__", ()))
    )
    return marked or any(_is_path(inner) for inner in get_args(annotation))
