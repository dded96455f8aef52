"""In what two configurations differ, when a run is to go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ilo_pl.config.run import RUN_PATHS, RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.remote import is_remote

# What a resumed run may have otherwise: none of these reaches the results.
FREE = (
    *("output", "reference", "resume", "allow_changes"),
    *("logger", "metrics", "report", "animation", "preview", "engine"),
)
FREE_TRAINER = ("accelerator", "devices", "num_nodes", "checkpoint_minutes", "checkpoint_steps")


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], ignored: Collection[str] = ()
) -> list[str]:
    """Return a line for each key in which two configurations differ, but for those that may change.

    Keys that one of them lacks, because it was written by another version, have their defaults; a file or
    folder is the same however its path is written.

    Args:
        before: the configuration that a run was begun with.
        now: the one that it is to go on with.
        ignored: further dotted keys that may change.
    """
    old, new = (_leaves(_complete(config)) for config in (before, now))
    return [
        f"{key} = {old.get(key)!r} before, {new.get(key)!r} now"
        for key in {**old, **new}
        if key not in ignored and not is_free(key) and _differ(key, old.get(key), new.get(key))
    ]


def other_settings(place: Path, different: Sequence[str]) -> ConfigurationError:
    """Return the error of a run that was begun in a folder with another configuration.

    Args:
        place: the folder.
        different: lines of :func:`changes`.
    """
    return ConfigurationError(
        f"{place} was run with other settings: {'; '.join(different)}.",
        hint="Resume with the settings it was started with, or give another folder with output=...",
    )


def is_free(key: str) -> bool:
    """Return whether a resumed run may have another value for a dotted key: it does not reach the results."""
    group, _, rest = key.partition(".")
    return group in FREE or (group == "trainer" and rest in FREE_TRAINER)


def anchored(config: RunConfig) -> RunConfig:
    """Return a run whose files are named from the root, so that it can go on from any working directory.

    What is no file, such as a registered name of weights, stays as it is.
    """
    return RunConfig(**{k: _each_path(k, v, _absolute) for k, v in config.model_dump().items()})


def _complete(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration with all its keys, where it is one of this version."""
    try:
        return RunConfig(**config).model_dump(mode="json")
    except ConfigurationError:
        return config


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix.removesuffix("."): node}
    return {
        k: v for key, value in node.items() for k, v in _leaves(value, f"{prefix}{key}.").items()
    }


def _differ(key: str, old: Any, new: Any) -> bool:
    return bool(_located(key, old) != _located(key, new))


def _located(key: str, value: Any) -> Any:
    """Return a value with every path in it in the one form that tells files apart."""
    return _each_path(key, value, lambda path: os.path.normcase(os.path.realpath(path)))


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.exists(path) else path


def _each_path(key: str, value: Any, change: Callable[[str], str]) -> Any:
    """Return the value of a dotted key with every path in it changed, however deep."""
    if isinstance(value, Mapping):
        return {name: _each_path(f"{key}.{name}", inner, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_each_path(key, inner, change) for inner in value]
    here = isinstance(value, str) and "\0" not in value and not is_remote(value)
    if here and key in RUN_PATHS:
        return change(value)
    return value
