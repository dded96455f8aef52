"""``key=value``, as every command takes it: one parser, in Hydra's syntax."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import CommonTokenStream, InputStream, OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from ilo_pl.errors import ConfigurationError

# Beyond these the parser takes its time, and no key has any use for it.
MAX_LENGTH = 10_000
MAX_DEPTH = 20
MAX_VALUES = 10_000
SHOWN = 200


@dataclass(frozen=True)
class Assignment:
    """One ``key=value``.

    Args:
        key: dotted key, or a config group.
        value: what it is set to.
        text: the same, as Hydra composes it.
    """

    key: str
    value: Any
    text: str


def read_overrides(texts: Sequence[str], paths: Collection[str] = ()) -> list[Assignment]:
    """Parse ``key=value``; a key may be given several times.

    Args:
        texts: as they were typed.
        paths: dotted keys of files and folders, whose values are text even where they look like numbers.

    Raises:
        ConfigurationError: a text is not of that form, deletes a key, or has several values.
    """
    return [_read(text, paths) for text in texts]


def expanded(texts: Sequence[str], paths: Collection[str] = ()) -> dict[str, list[str]]:
    """Return what each ``key=value`` stands for in a sweep: one text, or one for each of its values.

    Several values are ``key=a,b``, ``choice(a,b)`` or ``range(1,4)``, as in Hydra.

    Args:
        texts: as they were typed.
        paths: dotted keys of files and folders.

    Returns:
        Texts for :func:`read_overrides` by key.

    Raises:
        ConfigurationError: a text is malformed, has values that cannot be listed, or a key is given twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        _check_text(text)
        try:
            parsed, _ = _parse(text, paths)
            key = parsed.key_or_group
            listed = [text]
            if parsed.is_sweep_override():
                listed = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        except (HydraException, ValueError, TypeError, NotImplementedError, RecursionError):
            raise _malformed(text) from None
        if len(listed) > MAX_VALUES:
            raise ConfigurationError(f"{text[:SHOWN]!r} has more than {MAX_VALUES} values.")
        if key in found:
            raise ConfigurationError(f"The key {key!r} is given twice.")
        found[key] = listed
    return found


def once(assignments: Sequence[Assignment]) -> dict[str, Any]:
    """Return values by their keys.

    Raises:
        ConfigurationError: a key is given twice.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        if assignment.key in values:
            raise ConfigurationError(f"The key {assignment.key!r} is given twice.")
        values[assignment.key] = assignment.value
    return values


def override_texts(keys: Mapping[str, Any]) -> list[str]:
    """Return keys and values as overrides."""
    return [f"{key}={value_text(value)}" for key, value in keys.items()]


def value_text(value: Any) -> str:
    """Return a value as it is written behind ``key=``."""
    if isinstance(value, str):
        if re.fullmatch(r"[A-Za-z_][A-Za-z_-]*", value) and value.lower() not in WORDS:
            return value
        return str(QuotedString(text=value, quote=Quote.single).with_quotes())
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{value_text(v)}' for key, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return json.dumps(value)


# What is not text although it looks like a word.
WORDS = ("null", "true", "false", "inf", "nan")


def _read(text: str, paths: Collection[str]) -> Assignment:
    _check_text(text)
    try:
        parsed, changed = _parse(text, paths)
    except (HydraException, ValueError, RecursionError):
        raise _malformed(text) from None
    key = parsed.key_or_group
    if not key or parsed.package is not None:
        raise ConfigurationError(f"{text[:SHOWN]!r} is not of the form key=value: no such key.")
    if parsed.is_delete():
        raise ConfigurationError(
            f"{text!r} cannot be used: keys can be set, not removed.", hint="Set the key to null."
        )
    if parsed.is_sweep_override():
        raise _several(key, text)
    value = parsed.value()
    # Whether a key is new is checked by us; to Hydra all of them are set.
    plain = f"{key}={value_text(value)}" if changed else text.lstrip("+")
    return Assignment(key, value, f"++{plain}" if text.startswith("+") else plain)


def _check_text(text: str) -> None:
    """Refuse what no key needs before it costs anything."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{text[:SHOWN]!a} holds bytes that are no text.",
            hint="Names of files must be in UTF-8; rename the file.",
        ) from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ConfigurationError(
            f"{text[:SHOWN]!a} holds characters that cannot be written, such as the end of a line.",
            hint="Leave them out, also in names of files.",
        )
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(
            f"{text[:40]!r}... is {len(text)} characters long; at most {MAX_LENGTH} can be given.",
            hint="Many files are named by a folder, or by a .txt list of paths.",
        )
    depth = deepest = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ConfigurationError(
            f"{text[:40]!r}... has brackets within brackets {deepest} deep; no key needs more than "
            f"{MAX_DEPTH}."
        )


def _malformed(text: str) -> ConfigurationError:
    key, equals, value = text.partition("=")
    example = _quoted(key, value) if equals and re.fullmatch(r"\+{0,2}[\w./]+", key) else ""
    return ConfigurationError(
        f"{text[:SHOWN]!r} is not of the form key=value.",
        hint="Values with special characters are written in quotes within quotes: "
        f"{example or _quoted('input', 'photo (1).png')}",
    )


def _several(key: str, text: str) -> ConfigurationError:
    """Return the error about a value that Hydra would start several runs for."""
    value = text.partition("=")[2]
    hint = (
        "Give the command once for each value, each with another output=, or once with --multirun."
    )
    if key == "method":
        hint = f"{hint} ilo-pl experiment compares methods: methods=[ilo,csgm]."
    elif "(" not in value:
        hint = (
            f"Write a list in brackets: {key}=[{value[:SHOWN]}]; a text with commas in quotes: "
            f"{_quoted(key, value)}. For several runs, give the command once for each value, or once with "
            "--multirun."
        )
    return ConfigurationError(
        f"{text[:SHOWN]!r} gives {key} several values; one run has one.", hint=hint
    )


def _quoted(key: str, value: str) -> str:
    """Return how a value is typed so that neither the shell nor the parser reads anything into it."""
    inner = QuotedString(text=value[:SHOWN].strip("'\""), quote=Quote.single).with_quotes()
    return f'"{key}={inner}"'


class _Reader(HydraOverrideVisitor):  # type: ignore[misc]
    """Reads a parsed override, values of path keys as they were typed.

    Args:
        paths: dotted keys of files and folders.
    """

    def __init__(self, paths: Collection[str]) -> None:
        super().__init__(create_functions())
        self.changed = False
        self._paths = paths
        self._place: list[str] = []

    def visitKey(self, ctx: Any) -> Any:  # noqa: N802
        key = super().visitKey(ctx)
        self._place = [key.key_or_group]
        return key

    def visitDictKeyValuePair(self, ctx: Any) -> Any:  # noqa: N802
        self._place.append(ctx.getChild(0).getText().strip())
        pair = super().visitDictKeyValuePair(ctx)
        self._place.pop()
        return pair

    def visitPrimitive(self, ctx: Any) -> Any:  # noqa: N802
        value = super().visitPrimitive(ctx)
        if ".".join(self._place) in self._paths and isinstance(value, bool | int | float):
            self.changed = True
            return str(ctx.getText()).strip()
        return value


def _parse(text: str, paths: Collection[str]) -> tuple[Override, bool]:
    """Return an override, and whether its value is text that Hydra would read otherwise."""
    lexer = OverrideLexer(InputStream(text))
    parser = OverrideParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(HydraErrorListener())
    reader = _Reader(paths)
    override = reader.visit(parser.override())
    override.input_line = text
    override.validate()
    return override, reader.changed
