"""Registered weights, each with its source and licence: those in the package, and those elsewhere.

Safetensors files hold tensors and nothing that could be executed. Registered files are used only after their
sha256 was found to be the registered one.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import safetensors
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import WeightsError, unknown
from ilo_pl.weights.registry import registry, sha256_of

# Of the names and shapes at the beginning; those of a network of a thousand tensors have 100 kB.
MAX_HEADER = 8 << 20


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        Its tensors, and its metadata.

    Raises:
        WeightsError: it cannot be read.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > min(MAX_HEADER, path.stat().st_size):
            raise WeightsError(
                f"{path} cannot be read as safetensors: its header would have {header} bytes.",
                hint="The file may be incomplete, or another program's: make it again.",
            )
        with safetensors.safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {str(error)[:200]}.",
            hint="The file may be incomplete: make it again.",
        ) from None


def locate(file: Path) -> Path:
    """Return the path of a weights file given by its path or by its name in the registry.

    Raises:
        WeightsError: there is no such file and no such name, or the file cannot be had.
    """
    try:
        if file.is_file():
            return file
        if file.exists():  # reading a pipe would wait for somebody to write
            raise WeightsError(f"{file} is no file.")
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
    return {key: value.float() for key, value in read_safetensors(path)[0].items()}
