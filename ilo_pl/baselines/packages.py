"""Packages that only the baselines need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from ilo_pl.errors import ConfigurationError

# By the module that is imported: the package's name, and the extra of ilo_pl that brings it.
PACKAGES = {
    "scipy": ("scipy", "baselines"),
    "skimage": ("scikit-image", "baselines"),
    "pywt": ("PyWavelets", "baselines"),
    "bm3d": ("bm3d", "bm3d"),
}
LICENCES = {"bm3d": " (its licence: non-commercial use only)"}


def imported(module: str) -> Any:
    """Return a module of one of the packages.

    Args:
        module: its dotted name, for example ``scipy.ndimage``.

    Raises:
        ConfigurationError: the package is not installed; says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, extra = PACKAGES[module.partition(".")[0]]
        raise ConfigurationError(
            f"This method needs the package {package!r}, which cannot be imported: {error}.",
            hint=f"Install the extra: pip install 'ilo_pl[{extra}]'{LICENCES.get(package, '')}.",
        ) from None
