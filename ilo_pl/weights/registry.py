"""Registered weights files, each with its source, licence and sha256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class WeightsEntry:
    """One line of the registry: a file with its fingerprint and where it comes from.

    Args:
        name: how it is called.
        file: its file name, in the package or in the cache.
        source: who publishes it, in words.
        licence: its licence.
        sha256: its fingerprint; empty where it is not known, and such a file is never downloaded.
        url: the publisher's address; empty for files in the package.
    """

    name: str
    file: str
    source: str
    licence: str
    sha256: str = ""
    url: str = ""


def registry() -> dict[str, WeightsEntry]:
    """Return every registered weights file by name."""
    text = (resources.files("ilo_pl") / "weights" / "registry.json").read_text("utf-8")
    return {name: WeightsEntry(name=name, **entry) for name, entry in json.loads(text).items()}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
