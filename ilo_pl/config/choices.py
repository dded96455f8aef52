"""The YAML groups in ``configs/``: where they are, what can be chosen, which keys there are."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ilo_pl.errors import ConfigurationError, nearest, unknown
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.stage_spec import Stage
from ilo_pl.losses import LOSSES
from ilo_pl.operators.config import OPERATORS

# What a method that searches has.
COLUMNS = {"splits", *Stage.model_fields, *Schedule.model_fields}


def config_dir() -> Path:
    """Return the folder of the YAML groups, in an installed package or in a checkout."""
    packaged = Path(str(resources.files("ilo_pl"))) / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def choices(group: str) -> list[str]:
    """Return the names of a config group, without the ones that only others build on."""
    return sorted(
        p.stem for p in (config_dir() / group).glob("*.yaml") if not p.stem.startswith("_")
    )


def check_keys(keys: Sequence[str], base: DictConfig) -> None:
    """Refuse overrides of keys that are not there.

    Args:
        keys: dotted keys.
        base: the configuration that they are to change.

    Raises:
        ConfigurationError: a key is unknown; says what it may have been meant to be.
    """
    known = list(_flatten(OmegaConf.to_container(base)))
    for key in keys:
        if key in known:
            continue
        column = key.removeprefix("method.").partition(".")[0]
        if "outside" in base.method and column in COLUMNS:
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
            f"There is no configuration key {key!r}.",
            hint=f"{_remedy(key, known)}All keys are explained in {config_dir() / 'default.yaml'}.",
        )


def _remedy(key: str, known: Sequence[str]) -> str:
    """Return what an unknown key may have been meant to be: one of another choice, or a slip."""
    group, _, rest = key.partition(".")
    if group in ("operator", "noise", "follow", "logger"):
        owners = [
            c for c in choices(group) if rest in OmegaConf.load(config_dir() / group / f"{c}.yaml")
        ]
        tasks = [f"task={OPERATORS[c].task} operator={c}" for c in owners if group == "operator"]
        if owners:
            return f"It is a key of {' or '.join(tasks or [f'{group}={c}' for c in owners])}. "
    close = nearest(key, known) or [k for k in known if k.endswith(key.rpartition(".")[2])]
    return f"Did you mean {' or '.join(close)}? " if close else ""


def _flatten(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flatten(value, f"{prefix}{key}.")]
    return keys
