"""In what two configurations differ, when a run is to go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# What a resumed run may have otherwise: none of these reaches the results.
FREE = ("output", "reference", "resume", "allow_changes", "logger")
FREE_TRAINER = ("accelerator", "devices", "num_nodes", "checkpoint_minutes", "checkpoint_steps")


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], ignored: Collection[str] = ()
) -> list[str]:
    """Return a line for each key in which two configurations differ, but for those that may change.

    Args:
        before: the configuration that a run was begun with.
        now: the one that it is to go on with.
        ignored: further dotted keys that may change.
    """
    old, new = _flat(before), _flat(now)
    return [
        f"{key} = {old.get(key)!r} before, {new.get(key)!r} now"
        for key in {**old, **new}
        if key not in ignored and not _is_free(key) and old.get(key) != new.get(key)
    ]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix.removesuffix("."): node}
    return {k: v for key, value in node.items() for k, v in _flat(value, f"{prefix}{key}.").items()}


def _is_free(key: str) -> bool:
    """Return whether a resumed run may have another value for a dotted key: it does not reach the results."""
    group, _, rest = key.partition(".")
    return group in FREE or (group == "trainer" and rest in FREE_TRAINER)
