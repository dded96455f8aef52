"""Which keys a configuration has, and what an unknown one may have been meant to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ilo_pl.config.choices import TASK_OF, choices, config_dir
from ilo_pl.config.method import SearchMethod
from ilo_pl.errors import ConfigurationError, nearest, unknown
from ilo_pl.losses import LOSSES


def check_keys(keys: Sequence[str], base: DictConfig) -> None:
    """Refuse overrides of keys that are not there.

    Args:
        keys: dotted keys.
        base: the configuration that they are to change.

    Raises:
        ConfigurationError: a key is unknown; says what it may have been meant to be.
    """
    known = _dotted_keys(OmegaConf.to_container(base))
    for key in keys:
        if key in known:
            continue
        column = key.removeprefix("method.").partition(".")[0]
        if "outside" in base.method and column in SearchMethod.model_fields:
            raise ConfigurationError(
                f"The method {base.method.name!r} has no {column}: it does not search.",
                hint=f"Leave {key} out, or take another method.",
            )
        if key.startswith("method.losses."):
            name = key.removeprefix("method.losses.")
            if name not in LOSSES:
                raise unknown("loss", name, LOSSES)
            continue
        raise ConfigurationError(
            f"There is no configuration key {key[:200]!r}.",
            hint=f"{_remedy(key, known)}All keys are explained in {config_dir() / 'default.yaml'}.",
        )


def _remedy(key: str, known: Sequence[str]) -> str:
    """Return what an unknown key may have been meant to be: one of another choice, or a slip."""
    group, _, rest = key.partition(".")
    if group in ("operator", "noise", "follow", "logger"):
        owners = [
            c for c in choices(group) if rest in OmegaConf.load(config_dir() / group / f"{c}.yaml")
        ]
        tasks = [f"task={TASK_OF[c]} operator={c}" for c in owners if group == "operator"]
        if owners:
            return f"It is a key of {' or '.join(tasks or [f'{group}={c}' for c in owners])}. "
    close = nearest(key, known) or [k for k in known if k.endswith(key.rpartition(".")[2])]
    return f"Did you mean {' or '.join(close[:3])}? " if close else ""


def _dotted_keys(node: Any, prefix: str = "") -> list[str]:
    """Return the keys of nested mappings, inner ones and those that hold them."""
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_dotted_keys(value, f"{prefix}{key}.")]
    return keys
