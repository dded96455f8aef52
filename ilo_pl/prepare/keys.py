"""Keys of the actions of ``ilo-pl prepare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from ilo_pl.config.overrides import parse_override
from ilo_pl.errors import ConfigurationError
from ilo_pl.prepare.masks import Box
from ilo_pl.prepare.mixing import Direction
from ilo_pl.spec import Number, Spec, Whole

MOST_PIXELS = 16384


def _pair(value: Any) -> Any:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


def _list(value: Any) -> Any:
    return [value] if isinstance(value, list) and value and isinstance(value[0], int) else value


def _text(value: Any) -> Any:
    """A folder may be called 2024."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, Field(min_length=1), BeforeValidator(_text)]
Side = Annotated[Whole, Field(ge=1, le=MOST_PIXELS)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Boxes = Annotated[tuple[Box, ...], BeforeValidator(_list), Field(min_length=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Keys = TypeVar("Keys", bound=Spec)


class AlignKeys(Spec):
    """Keys of ``align``."""

    input: Text
    output: Text
    size: Annotated[Whole, Field(ge=8, le=8192)] = 1024
    face: Literal["largest", "all"] = "largest"
    eyes: tuple[Number, Number, Number, Number] | None = None
    mouth: tuple[Number, Number] | None = None
    landmarks: Text | None = None


class BoxKeys(Spec):
    """Keys of ``box``."""

    output: Text
    boxes: Boxes
    size: Size = (1024, 1024)


class MaskKeys(Spec):
    """Keys of ``mask``."""

    input: Text
    output: Text
    threshold: Share = 0.5
    invert: bool = False
    size: Size | None = None
    aligned: Text | None = None


class RandomKeys(Spec):
    """Keys of ``random``."""

    output: Text
    fraction: Number
    input: Text | None = None
    size: Size | None = None
    seed: Seed = 0


class CollageKeys(Spec):
    """Keys of ``collage``."""

    inputs: Annotated[tuple[Text, ...], Field(min_length=2)]
    output: Text
    direction: Direction = "columns"
    boxes: Boxes | None = None


class BlendKeys(Spec):
    """Keys of ``blend``."""

    inputs: tuple[Text, Text]
    output: Text
    weight: Share = 0.5


class FramesKeys(Spec):
    """Keys of ``frames``."""

    input: Text
    output: Text
    first: Count = 0
    last: Count | None = None
    every: Annotated[Whole, Field(ge=1)] = 1


class VideoKeys(Spec):
    """Keys of ``video``."""

    input: Text
    output: Text
    rate: Annotated[Number, Field(gt=0, le=1000)] = 25.0


class PasteKeys(Spec):
    """Keys of ``paste``."""

    input: Text
    aligned: Text
    photos: Text
    output: Text
    masks: Text | None = None
    feather: Annotated[Number, Field(ge=0, le=0.5)] = 0.05


def parse(kind: type[Keys], overrides: Sequence[str]) -> Keys:
    """Return the typed keys of an action from ``key=value`` in Hydra's syntax.

    Raises:
        ConfigurationError: a key is unknown, missing, ill-typed or given twice.
    """
    values: dict[str, Any] = {}
    for text in overrides:
        override = parse_override(text)
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigurationError(
                f"{text!r} has several values.", hint=f"Write a list in brackets: {key}=[...]"
            )
        if key in values:
            raise ConfigurationError(f"The key {key!r} is given twice.")
        values[key] = override.value()
    return kind(**values)
