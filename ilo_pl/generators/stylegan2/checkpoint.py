"""Files of StyleGAN2 networks: NVIDIA's pickles, rosinality's checkpoints, our own safetensors."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators.stylegan2.nvidia import read_nvidia
from ilo_pl.generators.stylegan2.rosinality import read_rosinality
from ilo_pl.weights.load import locate
from ilo_pl.weights.registry import sha256_of

FORMAT = "ilo_pl.stylegan2/1"
PICKLE = b"\x80"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds of one generator.

    Args:
        path: the file.
        format: whose format it is.
        state: float32 tensors under the names of NVIDIA's code.
        conv_clamp: what activations are clamped to, if they are.
        arguments: what the network was constructed with, where the file tells.
        metadata: what our own files know of their origin.
    """

    path: Path
    format: str
    state: dict[str, Tensor]
    conv_clamp: float | None
    arguments: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a StyleGAN2 of any known format; nothing that a file holds is run.

    Args:
        file: a path, or a name of the registry.

    Raises:
        WeightsError: there is no such file, it is damaged, or it holds something else.
    """
    path = locate(file)
    try:
        with path.open("rb") as opened:
            head = opened.read(16)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from None
    # A safetensors file begins with its header's length, which can look like a pickle's first byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _read_own(path)
    if zipfile.is_zipfile(path) or _is_legacy_torch(path):
        return Checkpoint(path, "rosinality's checkpoint", *read_rosinality(path))
    if head.startswith(PICKLE) or path.suffix == ".pkl":
        return Checkpoint(path, "NVIDIA's pickle", *read_nvidia(path))
    raise WeightsError(
        f"{path} is no file of a StyleGAN2 that is known.",
        choices=("NVIDIA's .pkl", "rosinality's .pt", "the .safetensors of `ilo-pl convert`"),
        hint="The file may be incomplete: get it again." if head[:2] == b"PK" else "",
    )


def _is_legacy_torch(path: Path) -> bool:
    """Tell files of torch.save before its version 1.6 by their first pickle, a magic number."""
    with path.open("rb") as opened:
        return b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in opened.read(32)


def _read_own(path: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
        state = safetensors.torch.load_file(path)
        clamp = metadata.get("conv_clamp", "none")
        limit = None if clamp == "none" else float(clamp)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {error}.",
            hint="The file may be incomplete: make it again.",
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds {metadata.get('format', 'tensors of unknown origin')}, not {FORMAT}.",
            hint="`ilo-pl convert` writes such files.",
        )
    state = {name: value.float() for name, value in state.items()}
    return Checkpoint(path, "our own safetensors", state, limit, metadata=metadata)


def own_metadata(checkpoint: Checkpoint, licence: str) -> dict[str, str]:
    """Return what our own file says of where it comes from."""
    clamp = checkpoint.conv_clamp
    return {
        "format": FORMAT,
        "architecture": "stylegan2",
        "conv_clamp": "none" if clamp is None else str(clamp),
        "source": checkpoint.path.name,
        "source_format": checkpoint.format,
        "source_sha256": sha256_of(checkpoint.path),
        "licence": licence,
    }
