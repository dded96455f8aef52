"""Files made to do harm: refused by one message, soon, in little memory, with nothing run and nothing written."""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from ilo_pl.config.compose import load_config
from ilo_pl.errors import IloError, InputError
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import image_size, load_image
from ilo_pl.io.measurements import Measurements, Origin, load_measurements
from ilo_pl.prepare.files import read_record
from ilo_pl.prepare.landmarks import read_landmarks
from ilo_pl.runs.latents import POINT_FORMAT, generator_of, load_point
from ilo_pl.runs.run import run

MOST_SECONDS = 5.0
MOST_BYTES = 1 << 30
ORIGIN = Origin((3, 32, 32), 5, "inversion", {"name": "identity"}, {"name": "none"})


class Evil:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, ("open('executed', 'w').close()",)


def npz(path: Path, **changes: object) -> None:
    """Write measurements with some arrays changed; ``bytes`` stand for a whole member."""
    made = Measurements("ann", ORIGIN, torch.zeros(3, 32, 32)).save(RunFolder(path.parent / "made"))
    with np.load(made) as file:
        arrays: dict[str, object] = {name: file[name] for name in file.files} | changes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            member = io.BytesIO()
            if isinstance(value, bytes):
                member.write(value)
            else:
                np.save(member, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", member.getvalue())


def member(shape: str, dtype: str = "<f4", data: bytes = b"") -> bytes:
    """Return an ``.npy`` file that says what it likes of its shape."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data


def deep(levels: int) -> str:
    return '{"name": ' + "[" * levels + "]" * levels + "}"


def compressed_by_lzma(path: Path) -> None:
    npz(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


MEASUREMENTS: dict[str, Callable[[Path], object]] = {
    "a bomb": lambda p: npz(p, y=member("(1000000000,)", data=bytes(1 << 24))),
    "a huge shape": lambda p: npz(p, y=member(f"({10**12},)")),
    "a shape beyond 64 bits": lambda p: npz(p, y=member(f"({2**63}, {2**63})")),
    "a negative shape": lambda p: npz(p, y=member("(-1,)", data=bytes(8))),
    "numbers of no size": lambda p: npz(p, y=member(f"({10**15},)", "<U0")),
    "a shape that is deep": lambda p: npz(p, y=member("(" * 4000 + ")" * 4000)),
    "a shape that is code": lambda p: npz(p, y=member("__import__('os').abort()")),
    "a pickle": lambda p: npz(p, y=np.array([Evil()], dtype=object)),
    "a pickle as id": lambda p: npz(p, id=np.array(Evil(), dtype=object)),
    "only a pickle": lambda p: p.write_bytes(pickle.dumps(Evil())),
    "masks of a bomb": lambda p: npz(p, mask0=member(f"(1, {1 << 14}, {1 << 15})", "|b1", bytes(1 << 24))),
    "thousands of masks": lambda p: npz(p, **{f"mask{i}": np.ones((1, 2, 2), bool) for i in range(3000)}),
    "an infinite seed": lambda p: npz(p, seed=np.array(np.inf)),
    "a negative seed": lambda p: npz(p, seed=np.array(-1)),
    "a seed of 64 bits": lambda p: npz(p, seed=np.array(2**64 - 1, np.uint64)),
    "an infinite size": lambda p: npz(p, image_shape=np.array([3, np.inf, 32])),
    "a huge size": lambda p: npz(p, image_shape=np.array([3, 2**62, 2**62])),
    "no size": lambda p: npz(p, image_shape=np.array([], np.int64)),
    "half a character as id": lambda p: npz(p, id=np.array("a\ud800")),
    "an id that clears the screen": lambda p: npz(p, id=np.array("a\x1b[2J")),
    "half a character as task": lambda p: npz(p, task=np.array("\ud800")),
    "deep settings": lambda p: npz(p, operator=np.array(deep(50_000))),
    "settings rather deep": lambda p: npz(p, operator=np.array(deep(900))),
    "half a character in settings": lambda p: npz(p, operator=np.array('{"name": "\\ud800"}')),
    "infinite settings": lambda p: npz(p, noise=np.array('{"name": "gaussian", "sigma": 1e999}')),
    "settings of long numbers": lambda p: npz(p, noise=np.array('{"name": ' + "9" * 4000 + "}")),
    "settings without a name": lambda p: npz(p, operator=np.array("{}")),
    "a list of settings": lambda p: npz(p, operator=np.array("[]")),
    "settings of megabytes": lambda p: npz(p, operator=np.array('{"name": "' + "x" * 10**6 + '"}')),
    "compressed by LZMA": compressed_by_lzma,
}  # fmt: skip


def safetensors(path: Path, header: dict[str, object], data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def latents(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: str) -> None:
    metadata = {
        "format": POINT_FORMAT,
        "generator": "tiny",
        "seed": "0",
        "split": "0",
        "space": "z",
    }
    save_file(tensors or {"latents": torch.zeros(1, 2, 4)}, path, metadata | changes)


LATENTS: dict[str, Callable[[Path], object]] = {
    "float64": lambda p: latents(p, {"latents": torch.zeros(1, 2, 4, dtype=torch.float64)}),
    "bfloat16": lambda p: latents(p, {"latents": torch.zeros(1, 2, 4, dtype=torch.bfloat16)}),
    "whole numbers": lambda p: latents(p, {"latents": torch.zeros(1, 2, 4, dtype=torch.int64)}),
    "numbers that are none": lambda p: latents(p, {"latents": torch.full((1, 2, 4), torch.nan)}),
    "two images": lambda p: latents(p, {"latents": torch.zeros(2, 2, 4)}),
    "one number": lambda p: latents(p, {"latents": torch.tensor(1.0)}),
    "no latents": lambda p: latents(p, {"hidden.x": torch.zeros(1, 4, 4, 4)}),
    "noises of words": lambda p: latents(p, {"latents": torch.zeros(1, 2, 4), "noises.x": torch.zeros(1, 1)}),
    "a negative seed": lambda p: latents(p, seed="-1"),
    "a long seed": lambda p: latents(p, seed="9" * 10_000),
    "a seed of 64 bits": lambda p: latents(p, seed=str(2**64)),
    "a split of words": lambda p: latents(p, split="inf"),
    "a long split": lambda p: latents(p, split="9" * 10_000),
    "a header of gigabytes": lambda p: p.write_bytes(struct.pack("<Q", 1 << 40) + b"{}"),
    "tensors of gigabytes": lambda p: safetensors(
        p, {"latents": {"dtype": "F32", "shape": [1, 2**40], "data_offsets": [0, 2**42]}}),
    "an unknown type": lambda p: safetensors(
        p, {"latents": {"dtype": "F4", "shape": [1, 1], "data_offsets": [0, 4]}}, bytes(4)),
    "a pickle": lambda p: p.write_bytes(pickle.dumps(Evil())),
    "a file of torch": lambda p: torch.save({"latents": Evil()}, p),
}  # fmt: skip


def png(path: Path, width: int, height: int, *chunks: tuple[bytes, bytes]) -> None:
    raw = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, data in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        raw += struct.pack(">I", len(data)) + name + data
        raw += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(raw)


BOMB = zlib.compress(bytes(1 << 28))
PIXELS = (b"IDAT", zlib.compress(bytes(8 * 25)))


def postscript(path: Path) -> None:
    path.write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(executed) (w) file\n"
    )


def cut(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-500])


PICTURES: dict[str, Callable[[Path], object]] = {
    "too many pixels": lambda p: png(p, 60_000, 60_000, (b"IDAT", BOMB)),
    "more pixels than are there": lambda p: png(p, 9_000, 9_000, PIXELS),
    "no pixels": lambda p: png(p, 0, 8, PIXELS),
    "a text of 256 MB": lambda p: png(p, 8, 8, (b"zTXt", b"a\0\0" + BOMB), PIXELS),
    "an international text of 256 MB": lambda p: png(
        p, 8, 8, (b"iTXt", b"a\0\1\0\0\0" + BOMB), PIXELS),
    "a PostScript program": postscript,
    "a pickle": lambda p: p.write_bytes(pickle.dumps(Evil())),
    "a cut JPEG": cut,
    "nothing": lambda p: p.write_bytes(b""),
    "a TIFF in a circle": lambda p: p.write_bytes(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "a TIFF of a million entries": lambda p: p.write_bytes(b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535)),
    "a bitmap of gigabytes": lambda p: p.write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 1 << 30, 1 << 30, 1, 24, 0, 0, 0, 0, 0, 0)),
    "a GIF of gigabytes": lambda p: p.write_bytes(b"GIF89a" + b"\xff" * 4 + bytes(3) + b";"),
    "a HEIC of nothing": lambda p: p.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40)),
    "an AVIF of nothing": lambda p: p.write_bytes(b"\0\0\0\x18ftypavif" + bytes(40)),
}  # fmt: skip


def read_picture(path: Path) -> None:
    try:
        image_size(path)
    finally:
        load_image(path)


JSON = {
    "infinite": '{"format": "ilo_pl.aligned/1", "photo_size": [1e999, 2], "square": [], "size": 4}',
    "deep": "[" * 200_000,
    "half a character": json.dumps({
        "format": "ilo_pl.aligned/1", "photo": "\ud800", "photo_size": [9, 9], "size": 9,
        "square": [[0, 0], [0, 9], [9, 9], [9, 0]]}),
    "a square of millions": json.dumps({
        "format": "ilo_pl.aligned/1", "photo": "a", "photo_size": [9, 9], "size": 9,
        "square": [[0, 0], [0, 1e7], [1e7, 1e7], [1e7, 0]]}),
    "a face of gigabytes": json.dumps({
        "format": "ilo_pl.aligned/1", "photo": "a", "photo_size": [99, 99], "size": 10**6,
        "square": [[0, 0], [0, 50], [50, 50], [50, 0]]}),
}  # fmt: skip


def refused(path: Path, read: Callable[[Path], object], folder: Path) -> None:
    """Make sure that reading a file raises what people can read, within bounds, and leaves no trace."""
    before, start = sorted(folder.rglob("*")), time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        read(path)
    assert len(str(caught.value).encode()) < 3000
    assert time.perf_counter() - start < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < MOST_BYTES
    assert sorted(folder.rglob("*")) == before


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory is measured by POSIX")


@pytest.mark.parametrize("kind", MEASUREMENTS)
def test_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "given" / "ann.npz"
    path.parent.mkdir()
    MEASUREMENTS[kind](path)
    if kind != "settings without a name":  # which a run refuses
        refused(path, load_measurements, tmp_path)
    keys = ["generator=tiny", "method.splits=[0]", f"input={path.parent}", f"output={tmp_path}/out"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IloError):
        run(load_config(keys), Console(quiet=True))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", LATENTS)
def test_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    LATENTS[kind](tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", load_point, tmp_path)


def test_weights_of_latents_that_no_disk_can_have(tmp_path: Path) -> None:
    latents(tmp_path / "x.safetensors", weights="/" + "a" * 5000)
    with pytest.raises(InputError, match="which are not there"):
        generator_of(load_point(tmp_path / "x.safetensors")[1])


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    PICTURES[kind](tmp_path / "x.png")
    refused(tmp_path / "x.png", read_picture, tmp_path)


@pytest.mark.parametrize("kind", JSON)
def test_records_and_landmarks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(JSON[kind])
    refused(path, read_record, tmp_path)
    refused(path, lambda p: read_landmarks(p, ["x"]), tmp_path)
