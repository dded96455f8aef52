"""Files of StyleGAN2 networks: NVIDIA's pickles, rosinality's checkpoints, our own safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.stylegan2.architecture import Architecture, read_off
from ilo_pl.generators.stylegan2.nvidia import read_nvidia
from ilo_pl.generators.stylegan2.rosinality import read_rosinality
from ilo_pl.generators.stylegan2.unpickler import GZIP
from ilo_pl.weights.load import locate, read_safetensors
from ilo_pl.weights.pickles import is_torch_file
from ilo_pl.weights.registry import sha256_of

FORMAT = "ilo_pl.stylegan2/2"
# Did not have the key "network": what no shape tells was always the same.
FORMAT_1 = "ilo_pl.stylegan2/1"
PICKLES = (b"\x80", b"(d", b"}", b"ctorch_utils", GZIP)
MAX_FILTER = 64


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds of one generator.

    Args:
        path: the file.
        format: whose format it is.
        state: float32 tensors under the names of NVIDIA's code.
        architecture: what the network is built of.
        arguments: what the network was constructed with, where the file tells, for people.
        metadata: what our own files know of their origin.
    """

    path: Path
    format: str
    state: dict[str, Tensor]
    architecture: Architecture
    arguments: dict[str, str] = field(default_factory=dict)
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
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        # A safetensors file begins with its header's length, which can look like a pickle's first byte.
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
            return _read_own(path)
        if is_torch_file(path):
            state = read_rosinality(path)
            return Checkpoint(path, "rosinality's checkpoint", state, read_off(state))
        if head.startswith(PICKLES) or path.suffix == ".pkl":
            found = read_nvidia(path)
            return Checkpoint(path, "NVIDIA's pickle", *found)
    except ConfigurationError as error:
        reason = error.what.replace("\n", " ").rstrip(".")
        raise WeightsError(f"{path} is not a StyleGAN2 that is read: {reason}.") from None
    raise WeightsError(
        f"{path} is no file of a StyleGAN2 that is known.",
        choices=("NVIDIA's .pkl", "rosinality's .pt", "the .safetensors of `ilo-pl convert`"),
        hint="The file may be incomplete: get it again." if head[:2] == b"PK" else "",
    )


def _read_own(path: Path) -> Checkpoint:
    state, metadata = read_safetensors(path)
    if metadata.get("format") not in (FORMAT, FORMAT_1):
        raise WeightsError(
            f"{path} holds {metadata.get('format', 'tensors of unknown origin')[:80]}, not {FORMAT}.",
            hint="`ilo-pl convert` writes such files.",
        )
    state = {name: value.float() for name, value in state.items()}
    try:
        if metadata["format"] == FORMAT:
            architecture = Architecture.model_validate_json(metadata.get("network", ""))
        else:
            clamp = metadata.get("conv_clamp", "none")
            architecture = read_off(state, conv_clamp=None if clamp == "none" else float(clamp))
        architecture.check()
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0][:200]
        raise WeightsError(f"{path} does not say what its network is built of: {first}.") from None
    return Checkpoint(path, "our own safetensors", state, architecture, metadata=metadata)


def own_metadata(checkpoint: Checkpoint, licence: str) -> dict[str, str]:
    """Return what our own file says of its network and of where it comes from."""
    return {
        "format": FORMAT,
        "architecture": "stylegan2",
        "network": checkpoint.architecture.model_dump_json(),
        "source": checkpoint.path.name,
        "source_format": checkpoint.format,
        "source_sha256": sha256_of(checkpoint.path),
        "licence": licence,
    }


def check_tensors(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], optional: set[str], path: Path
) -> None:
    """Compare names and shapes, and refuse numbers that are not finite.

    Args:
        state: what the file holds.
        expected: the network's own tensors, of which only the shapes count. Filters have any shape.
        optional: what may be missing.
        path: the file.

    Raises:
        WeightsError: they do not fit.
    """
    problems = [f"{n} is missing" for n in expected if n not in state and n not in optional]
    problems += [f"{n[:80]} does not belong there" for n in state if n not in expected]
    for name in expected.keys() & state.keys():
        found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        if name.endswith("resample_filter"):
            if len(found) != 2 or not all(1 <= n <= MAX_FILTER for n in found):
                problems.append(f"{name} has shape {found}")
        elif found != wanted:
            problems.append(f"{name} has shape {found} in place of {wanted}")
        if not math.prod(found) or not torch.isfinite(state[name]).all():
            problems.append(f"{name} holds numbers that are not finite, or none")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} does not fit StyleGAN2: {'; '.join(sorted(problems)[:3])}{more}."
        )
