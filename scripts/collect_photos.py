#!/usr/bin/env python
"""Collect photographs of faces that anyone may measure on, out of Python packages.

    python scripts/collect_photos.py RAW
    ilo-pl prepare align input=RAW output=ALIGNED size=256
    python scripts/benchmark_photos.py ALIGNED OUTPUT

Three are works of the government of the United States, in the public domain: Grace Hopper (US Navy; comes with
matplotlib), Joe Biden and Barack Obama (the White House; in the sources of face_recognition). The fourth comes with
mahotas under its licence (MIT): its author. matplotlib is installed with this package; pip downloads the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import matplotlib


def download(package: str, folder: str, *options: str) -> Path:
    """Let pip fetch a package into an empty folder; return the file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    subprocess.run([*command, *options, package], check=True)
    return next(Path(folder).iterdir())


def photographs() -> dict[str, bytes]:
    """Return the photographs by name, as their packages have them."""
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = {"grace_hopper.jpg": hopper.read_bytes()}
    with tempfile.TemporaryDirectory() as folder:
        sources = download("face_recognition==1.3.0", folder, "--no-binary", ":all:")
        with tarfile.open(sources) as archive:
            for name in ("biden.jpg", "obama.jpg"):
                member = archive.extractfile(f"face_recognition-1.3.0/tests/test_images/{name}")
                assert member is not None
                found[name] = member.read()
    with tempfile.TemporaryDirectory() as folder:
        wheel = download("mahotas==1.4.19", folder, "--only-binary", ":all:")
        with zipfile.ZipFile(wheel) as archive:
            found["luispedro.jpg"] = archive.read("mahotas/demos/data/luispedro.jpg")
    return found


def main() -> None:
    """Write the photographs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    output.mkdir(parents=True)
    for name, content in photographs().items():
        (output / name).write_bytes(content)


if __name__ == "__main__":
    main()
