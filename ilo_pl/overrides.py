"""Overrides ``key=value`` in Hydra's syntax."""

from __future__ import annotations

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
