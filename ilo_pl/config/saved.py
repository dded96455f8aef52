"""Configurations that runs wrote; the file may be a stranger's."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError

CONFIG = "config.yaml"
RECORD = os.path.join("state", "run.json")
# A configuration has about 2,000 bytes, is four levels deep, and what we write has no alias at all.
MAX_BYTES = 2**16
MAX_DEPTH = 20
MAX_ALIASES = 10
# What holds itself recurses.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    RecursionError,
    yaml.YAMLError,
    OmegaConfBaseException,
)
HINT = "Give the folder that a run wrote, the one with config.yaml in it."


def is_run(folder: Path) -> bool:
    """Return whether a folder has the configuration of a run."""
    return any(os.path.isfile(folder / name) for name in (CONFIG, RECORD))


def load_run_config(folder: Path) -> RunConfig:
    """Return the configuration that a run folder was made with.

    Raises:
        ConfigurationError: the folder holds none, or it cannot be used.
    """
    # A run that was stopped in its first moments has only its record.
    begun = os.path.isfile(folder / RECORD) and not os.path.isfile(folder / CONFIG)
    if begun:
        return _made(folder / RECORD, _from_json(folder / RECORD))
    return _made(folder / CONFIG, read_yaml(folder / CONFIG, "the configuration of a run", HINT))


def read_yaml(path: Path, what: str, hint: str, most: int = MAX_BYTES) -> dict[str, Any]:
    """Read a small YAML file of keys, whoever wrote it.

    Args:
        path: the file.
        what: what it is to be, in words.
        hint: what to do where it is not.
        most: how many bytes it may have.

    Raises:
        ConfigurationError: it cannot be read, is larger or deeper than such files are, or holds aliases that
            would multiply it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise ValueError(f"it has more than {most} bytes")
        text = raw.decode()
        _check_events(text)
        loaded = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except UNREADABLE as error:
        raise ConfigurationError(
            f"{path} cannot be read as {what}: {_first_line(error)}.", hint=hint
        ) from None
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{path} is not {what}.", hint=hint)
    return {str(key): value for key, value in loaded.items()}


def _check_events(text: str) -> None:
    """Refuse what would cost more to build than to read."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is more than {MAX_DEPTH} levels deep")
        if aliases > MAX_ALIASES:
            raise ValueError(f"it has more than {MAX_ALIASES} aliases")


def _from_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))["config"]
        return {str(key): value for key, value in config.items()}
    except (*UNREADABLE, LookupError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as the record of a run: {_first_line(error)}.", hint=HINT
        ) from None


def _made(path: Path, container: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig(**container)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path} is not the configuration of a run of this version. {error.what}",
            choices=error.choices,
            hint=error.hint,
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
