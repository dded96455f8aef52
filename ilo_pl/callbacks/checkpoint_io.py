"""Checkpoints that are whole or not there, and signals that wait for the end of a step."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ilo_pl.errors import InputError
from ilo_pl.io.folder import atomic

MAGIC = b"ilo_pl.ckpt/1\n"
DIGEST_BYTES = 32


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints with a checksum, written under a temporary name; the one before is kept beside.

    A plugin for ``pl.Trainer(plugins=[SafeCheckpointIO()])``. Files that Lightning wrote without it can
    be read, too; no code in a file is run.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: it cannot be written; the one before is untouched.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getbuffer()
        path = Path(path)
        with atomic(path) as temporary:
            with temporary.open("wb") as file:
                file.write(MAGIC)
                file.write(_digest(data))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                os.replace(path, _previous(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            InputError: it is damaged or cannot be read.
        """
        data = _verified(Path(path))
        try:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for files that are none
            raise InputError(f"The checkpoint {path} is damaged: {error}.") from error
        assert isinstance(loaded, dict)
        return loaded


def last_good(path: Path) -> Path | None:
    """Return a checkpoint's path, or the one before it where it is damaged, or ``None``.

    Damaged files are reported by a warning and removed, so that they never take a good one's place.
    """
    for candidate in (path, _previous(path)):
        if not candidate.exists():
            continue
        try:
            SafeCheckpointIO().load_checkpoint(candidate)
        except InputError as error:
            warnings.warn(f"{error.what} It is skipped.", stacklevel=2)
            candidate.unlink()
        else:
            return candidate
    return None


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _digest(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _verified(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The checkpoint {path} cannot be read: {error}.") from error
    if not data.startswith(MAGIC):
        return data
    digest, data = (
        data[len(MAGIC) : len(MAGIC) + DIGEST_BYTES],
        data[len(MAGIC) + DIGEST_BYTES :],
    )
    if _digest(data) != digest:
        raise InputError(f"The checkpoint {path} is damaged: its checksum differs.")
    return data
