"""Damaged files and strangers' files: read, or refused by one message, soon and within bounds.

``ILO_PL_MUTATIONS=20000 pytest tests/io/test_fuzz_files.py`` tries more.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from safetensors.torch import save_file

from ilo_pl.errors import InputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import image_size, load_image
from ilo_pl.io.measurements import Measurements, Origin, load_measurements
from ilo_pl.runs.latents import POINT_FORMAT, load_point
from tests.io.icc import cmyk_profile, rgb_profile

MUTATIONS = int(os.environ.get("ILO_PL_MUTATIONS", "1100"))
MOST_SECONDS = 5.0
MOST_BYTES = 1 << 30
ORIGIN = Origin((3, 32, 32), 5, "inversion", {"name": "identity"}, {"name": "none"})
# Lengths, shapes and signs at which arithmetic breaks.
EDGES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80")

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="memory is measured by POSIX"),
    # Of a picture that can be read in spite of all, something may be told.
    pytest.mark.filterwarnings("ignore:The colour profile"),
    pytest.mark.filterwarnings("ignore:.*of which the first is used"),
]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def picture(suffix: str, mode: str = "RGB", **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / f"x{mode.replace(';', '')}.{suffix}"
        rng = np.random.default_rng(0)
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, (24, 24), dtype=np.uint16))
        else:
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert(mode)
        image.save(path, **options)
        return path

    return write


def measurements(folder: Path) -> Path:
    masks = (torch.ones(1, 8, 8),)
    return Measurements("ann", ORIGIN, torch.arange(64.0), masks).save(RunFolder(folder))


def stored(folder: Path) -> Path:
    """Measurements without compression: damage reaches the arrays' headers, past every checksum but that of zip."""
    path = measurements(folder)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **arrays)
    return path


def latents(folder: Path, **changes: object) -> Path:
    metadata = {
        "format": POINT_FORMAT,
        "generator": "tiny",
        "seed": "0",
        "split": "1",
        "space": "z",
    }
    metadata |= {key: str(value) for key, value in changes.items()}
    tensors = {"latents": torch.randn(1, 2, 4), "hidden.x": torch.randn(1, 4, 4, 4)}
    save_file(tensors, folder / "x.safetensors", metadata)
    return folder / "x.safetensors"


def read_picture(path: Path) -> None:
    with suppress(InputError):
        image_size(path)
    load_image(path)


SEEDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "measurements": (measurements, load_measurements),
    "stored measurements": (stored, load_measurements),
    "latents": (latents, load_point),
    "png": (picture("png", icc_profile=rgb_profile()), read_picture),
    "png of 16 bits": (picture("png", "I;16"), read_picture),
    "palette": (picture("png", "P"), read_picture),
    "jpeg": (picture("jpg", icc_profile=rgb_profile()), read_picture),
    "cmyk": (picture("jpg", "CMYK", icc_profile=cmyk_profile(50)), read_picture),
    "tiff": (picture("tif"), read_picture),
    "tiff of 16 bits": (picture("tif", "I;16"), read_picture),
    "webp": (picture("webp"), read_picture),
    "gif": (picture("gif"), read_picture),
    "jpeg 2000": (picture("jp2"), read_picture),
    "bmp": (picture("bmp"), read_picture),
    "ppm": (picture("ppm"), read_picture),
}
if features.check("avif"):
    SEEDS["avif"] = picture("avif"), read_picture


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, or put a number at an edge; mostly near the beginning, where headers are."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 256)
        at = rng.randrange(max(1, reach))
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 4] = rng.choice(EDGES)
            case 2:
                del data[at : at + rng.randint(1, 40)]
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 80)] * rng.randint(1, 3)
            case _:
                del data[rng.randint(at, len(data)) :]
    return bytes(data)


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    make, read = SEEDS[kind]
    path = make(tmp_path)
    read(path)
    raw, rng, before = path.read_bytes(), random.Random(kind), peak()
    files = sorted(tmp_path.rglob("*"))
    refused = 0
    for number in range(MUTATIONS // len(SEEDS)):
        path.write_bytes(mutate(raw, rng))
        start = time.perf_counter()
        try:
            read(path)
        except InputError as error:
            refused += 1
            str(error).encode()
        except Exception as error:
            error.add_note(f"mutation {number} of {kind}")
            raise
        assert time.perf_counter() - start < MOST_SECONDS, number
    assert peak() - before < MOST_BYTES
    assert refused > 0
    assert sorted(tmp_path.rglob("*")) == files
