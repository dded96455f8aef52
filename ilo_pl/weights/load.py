"""Registered weights, each with its source and licence: those in the package, and those elsewhere.

Only safetensors files are read here: they hold tensors and nothing that could be executed. Files elsewhere
are used only after their sha256 was found to be the registered one.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import WeightsError, unknown
from ilo_pl.weights.registry import registry, sha256_of


def locate(file: Path) -> Path:
    """Return the path of a weights file given by its path or by its name in the registry.

    Raises:
        WeightsError: there is no such file and no such name, or the file cannot be had.
    """
    try:
        if file.exists():
            return file
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.") from None
    entry = registry().get(str(file))
    if entry is None or not entry.url:
        names = [e.name for e in registry().values() if e.url]
        raise WeightsError(
            f"There is no file {file}.", choices=names, hint="Give a path or one of these names."
        )
    from ilo_pl.weights.download import fetch

    return fetch(entry)


def load_weights(name: str, path: Path | None = None) -> dict[str, Tensor]:
    """Read a registered weights file after checking its sha256.

    Args:
        name: its name in the registry.
        path: read this copy of it; the one in the package by default.

    Returns:
        float32 tensors by name (stored as float16).

    Raises:
        WeightsError: the file is missing, is not the registered one, or cannot be read.
    """
    entries = registry()
    if name not in entries:
        raise unknown("weights file", name, entries)
    entry = entries[name]
    if path is None:
        path = Path(str(resources.files("ilo_pl") / "weights" / entry.file))
    if not path.is_file():
        raise WeightsError(
            f"The weights of {name} are not at {path}.",
            hint=f"Install the package anew, or make the file again from {entry.source}.",
        )
    found = sha256_of(path)
    if found != entry.sha256:
        raise WeightsError(
            f"{path} is not the file registered as {name}: its sha256 is {found}, "
            f"expected {entry.sha256}.",
            hint="The file is damaged or another version. Install the package anew, "
            f"or make the file again from {entry.source}.",
        )
    try:
        return {key: value.float() for key, value in safetensors.torch.load_file(path).items()}
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}.") from error
