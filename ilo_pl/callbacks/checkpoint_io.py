"""Checkpoints that are whole or not there: files that any Lightning reads, with their digests beside them.

x.ckpt              what torch.save makes of Lightning's checkpoint
x.ckpt.previous     the one before
x.ckpt.blake2b      the digests of both, newest first, a line each
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ilo_pl.errors import InputError
from ilo_pl.io.folder import atomic

# Of files written before the digest was put beside them; they are still read.
MAGIC = b"ilo_pl.ckpt/1\n"
DIGEST_BYTES = 32
_log = logging.getLogger(__name__)


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints with a digest, written under a temporary name; the one before is kept beside.

    A plugin for ``pl.Trainer(plugins=[SafeCheckpointIO()])``. What it writes any Trainer reads, and it reads
    what Lightning wrote without it; no code in a file is run.
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
            temporary.write_bytes(data)
            # First the digests, of all files that there can be if the next steps are cut off.
            before = _known(path)
            if before is None:
                before = [_digest(path.read_bytes())] if path.exists() else []
            known = [_digest(data), *before][:3]
            with atomic(_beside(path)) as digests:
                digests.write_text("".join(f"{digest}\n" for digest in known), "ascii")
            if path.exists():
                os.replace(path, _previous(path))
        _log.debug("checkpoint %s: %d bytes", path, len(data))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            InputError: it is damaged, cannot be read, or is not one of Lightning's.
        """
        data = _verified(Path(path))
        try:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for files that are none
            raise InputError(f"The checkpoint {path} is damaged: {error}.") from error
        if not isinstance(loaded, dict) or not isinstance(loaded.get("state_dict"), dict):
            raise InputError(f"{path} is not a checkpoint of Lightning.")
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint, the one before it and their digests."""
        super().remove_checkpoint(path)
        for file in (_previous(Path(path)), _beside(Path(path))):
            file.unlink(missing_ok=True)


def good(path: Path) -> Iterator[Path]:
    """Yield a checkpoint's path and then that of the one before it, where they are there and whole.

    Damaged files are reported by a warning and removed, so that they never take a good one's place.
    """
    for candidate in (path, _previous(path)):
        if not candidate.exists():
            continue
        if _known(candidate) is None and not _sealed(candidate):
            # torch does not look whether the numbers in a file are those that were written.
            skip(candidate, f"The checksum of the checkpoint {candidate} is gone.")
            continue
        try:
            SafeCheckpointIO().load_checkpoint(candidate)
        except InputError as error:
            skip(candidate, error.what)
        else:
            yield candidate


def skip(path: Path, why: str) -> None:
    """Remove a checkpoint that cannot be gone on from, and say so in a warning."""
    warnings.warn(f"{why} It is skipped.", stacklevel=3)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.previous')}.blake2b")


def _digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def _known(path: Path) -> list[str] | None:
    """Return the digests beside a checkpoint, newest first, ``None`` where there are none."""
    try:
        return _beside(path).read_text("ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return []


def _sealed(path: Path) -> bool:
    """Return whether a checkpoint has its digest in itself, as those of older versions."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return True  # reading it says why


def _verified(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The checkpoint {path} cannot be read: {error}.") from error
    if data.startswith(MAGIC):
        start = len(MAGIC) + DIGEST_BYTES
        digest, data = data[len(MAGIC) : start].hex(), data[start:]
        known: list[str] | None = [digest]
    else:
        known = _known(path)
    if known is not None and _digest(data) not in known:
        raise InputError(f"The checkpoint {path} is damaged: its checksum differs.")
    return data
