"""Weights that the package ships, each with its sha256, source and licence.

Only safetensors files are read here: they hold tensors and nothing that could be executed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import WeightsError, unknown


@dataclass(frozen=True)
class WeightsEntry:
    """One line of the registry: a file with its fingerprint and where it comes from."""

    name: str
    file: str
    sha256: str
    source: str
    licence: str


def registry() -> dict[str, WeightsEntry]:
    """Return every registered weights file by name."""
    text = (resources.files("ilo_pl") / "weights" / "registry.json").read_text("utf-8")
    return {name: WeightsEntry(name=name, **entry) for name, entry in json.loads(text).items()}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
