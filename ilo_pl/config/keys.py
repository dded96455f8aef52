"""Which keys a configuration has, and what an unknown one may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ilo_pl.config.choices import choices, config_dir
from ilo_pl.config.method import SearchMethod
from ilo_pl.config.overrides import Assignment
from ilo_pl.errors import ConfigurationError, nearest, shown, unknown
from ilo_pl.losses import LOSSES
from ilo_pl.operators.config import OPERATORS


def check_keys(given: Sequence[Assignment], base: DictConfig) -> None:
    """Refuse overrides of keys that are not there, and values where keys are.

    Args:
        given: what is to be set.
        base: the configuration that it is to change.

    Raises:
        ConfigurationError: a key is unknown; says what it may have been meant to be.
    """
    known = dict(_nodes(OmegaConf.to_container(base)))
    for assignment in given:
        if assignment.key not in known:
            _check_new(assignment.key, base.method, list(known))
        elif isinstance(known[assignment.key], dict) and not isinstance(assignment.value, dict):
            inner = ", ".join(known[assignment.key])
            raise ConfigurationError(
                f"{assignment.key} = {shown(assignment.value)} cannot be used: it has keys of its own: {inner}.",
                hint=f"For example {assignment.key}.{next(iter(known[assignment.key]))}=...",
            )


def _check_new(key: str, method: DictConfig, known: Sequence[str]) -> None:
    """Refuse a key that is not there, unless it is one of a loss."""
    column = key.removeprefix("method.").partition(".")[0]
    if "outside" in method and column in SearchMethod.model_fields:
        raise ConfigurationError(
            f"The method {method.name!r} has no {column}: it does not search.",
            hint=f"Leave {key} out, or take another method.",
        )
    if not key.startswith("method.losses."):
        raise ConfigurationError(
            f"There is no configuration key {shown(key)}.",
            hint=f"{_remedy(key, known)}All keys are explained in {config_dir() / 'default.yaml'}.",
        )
    name = key.removeprefix("method.losses.").partition(".")[0]
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)


def _remedy(key: str, known: Sequence[str]) -> str:
    """Return what an unknown key may have been meant to be: one of another choice, or a slip."""
    group, _, rest = key.partition(".")
    if group in ("operator", "noise", "follow", "logger", "engine"):
        owners = [
            c for c in choices(group) if rest in OmegaConf.load(config_dir() / group / f"{c}.yaml")
        ]
        tasks = [f"task={OPERATORS[c].task} operator={c}" for c in owners if group == "operator"]
        if owners:
            return f"It is a key of {' or '.join(tasks or [f'{group}={c}' for c in owners])}. "
    close = nearest(key, known) or [k for k in known if k.endswith(key.rpartition(".")[2])]
    return f"Did you mean {' or '.join(close[:3])}? " if close else ""


def _nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested mappings hold by dotted keys, the inner mappings too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from _nodes(value, f"{prefix}{key}.")
