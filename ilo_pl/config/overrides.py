"""Overrides ``key=value`` in Hydra's syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ilo_pl.errors import ConfigurationError


def parse_override(text: str) -> Override:
    """Parse one override.

    Raises:
        ConfigurationError: it is not of the form ``key=value``, or deletes a key.
    """
    try:
        parsed = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:
        raise ConfigurationError(
            f"{text[:200]!r} is not of the form key=value.",
            hint="Quote values with special characters in them, for example "
            f"\"input='my photo.png'\". ({str(error).splitlines()[0][:200]})",
        ) from None
    if not parsed.key_or_group:
        raise ConfigurationError(f"{text!r} is not of the form key=value: the key is missing.")
    if parsed.is_delete():
        raise ConfigurationError(
            f"{text!r} cannot be used: keys can be set, not removed.", hint="Set the key to null."
        )
    return parsed


def override_texts(keys: Mapping[str, Any]) -> list[str]:
    """Return keys and values as overrides."""
    return [f"{key}={value_text(value)}" for key, value in keys.items()]


def value_text(value: Any) -> str:
    """Return a value as it is written behind ``key=``."""
    if isinstance(value, str) and re.fullmatch(r"[\w.-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)
