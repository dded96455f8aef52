"""Real files of every format of weights with bytes and opcodes changed at random.

Each is read or refused with a message, soon, and nothing of it is looked up or run. ``ILO_PL_FUZZ=20000``
tries as many.
"""

from __future__ import annotations

import argparse
import gzip
import os
import pickletools
import random
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ilo_pl.errors import IloError
from ilo_pl.generators.biggan.network import BigGANDeep
from ilo_pl.generators.stylegan2.convert import convert_stylegan2
from ilo_pl.generators.stylegan2.network import StyleGAN2
from ilo_pl.weights.pickles import load_tensors
from tests.generators.foreign_files import Built, write_nvidia, write_rosinality
from tests.generators.test_biggan import SMALL
from tests.weights.test_hostile import SECONDS

MUTATIONS = int(os.environ.get("ILO_PL_FUZZ", "500"))
OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NUMBERS = [b"\xff", b"\0", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f", b"\xff" * 8]
FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "ctypes.dlopen")


class Listener:
    """Notes what is looked up or started while it listens.

    Python's audit hooks cannot be taken away again, so that it is told when to listen.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event in FORBIDDEN:
            self.seen.append(event)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, str]]:
    """Small files of every format: their bytes, and who reads them."""
    folder = tmp_path_factory.mktemp("weights")
    network = StyleGAN2.random(8, channel_base=64, channel_max=4, dim=6, mapping_layers=2, seed=1)
    state = {n: v for n, v in network.state_dict().items() if not n.startswith("v_")}
    files: dict[str, tuple[Path, str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for protocol in (0, 2, 4):
            path = write_nvidia(folder / f"{protocol}.pkl", state, patch, protocol=protocol)
            files[f"NVIDIA, protocol {protocol}"] = path, "stylegan2"
        path = write_nvidia(folder / "z.pkl", state, patch, Built(clamp=256.0), compress=True)
        files["NVIDIA, gzip"] = path, "stylegan2"
    for zipped in (True, False):
        path = write_rosinality(folder / f"{zipped}.pt", state, zipped=zipped)
        files[f"rosinality, {'zip' if zipped else 'old'}"] = path, "stylegan2"
    convert_stylegan2(path, "CC0").save(folder / "own.safetensors")
    files["safetensors"] = folder / "own.safetensors", "stylegan2"
    torch.save(BigGANDeep.random(SMALL).state_dict(), folder / "b.bin")
    files["BigGAN"] = folder / "b.bin", "biggan"
    layer = torch.nn.BatchNorm1d(3)
    content = {
        "model": layer.state_dict(),
        "optimizer": torch.optim.SGD(layer.parameters(), lr=0.1).state_dict(),
        "args": argparse.Namespace(lr=0.1),
    }
    for zipped in (True, False):
        path = folder / f"c{zipped}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        files[f"checkpoint, {'zip' if zipped else 'old'}"] = path, "tensors"
    return {name: (path.read_bytes(), reader) for name, (path, reader) in files.items()}


def generate(path: Path) -> None:
    """Read a network, and run it."""
    network = StyleGAN2.pretrained(path)
    network(torch.zeros(1, network.latent_dim))


READERS: dict[str, Callable[[Path], object]] = {
    "stylegan2": generate,
    "biggan": BigGANDeep.pretrained,
    "tensors": load_tensors,
}


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Change one to four places."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        # The interesting part of most files is not their numbers.
        place = draw.randrange(max(1, min(len(out), draw.choice((64, 4000, len(out) + 1)))))
        length = draw.choice((1, 2, 8, 100))
        kind = draw.randrange(7)
        if kind == 0:
            out[place : place + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            out[place : place + 1] = draw.choice(OPCODES)
        elif kind == 2:
            number = draw.choice(NUMBERS)
            out[place : place + len(number)] = number
        elif kind == 3:
            del out[place : place + length]
        elif kind == 4:
            out[place:place] = draw.randbytes(length)
        elif kind == 5:
            out[place:place] = out[draw.randrange(len(out) or 1) :][:length]
        else:
            del out[place + length * 50 :]
    return bytes(out)


def inside(data: bytes, path: Path, draw: random.Random) -> bytes:
    """Change what a compressed file or an archive holds, and pack it again."""
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(mutate(gzip.decompress(data), draw), 1)
    if data[:2] != b"PK":
        return mutate(data, draw)
    path.write_bytes(data)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    chosen = draw.choice([n for n in members if n.endswith(".pkl")] * 3 + list(members))
    with zipfile.ZipFile(path, "w") as target:
        for name, value in members.items():
            target.writestr(name, mutate(value, draw) if name == chosen else value)
    return path.read_bytes()


def mutants(
    originals: dict[str, tuple[bytes, str]], path: Path
) -> Iterator[tuple[str, Callable[[Path], object], bytes]]:
    names = list(originals)
    for number in range(MUTATIONS):
        draw = random.Random(number)
        name = names[number % len(names)]
        data, reader = originals[name]
        changed = inside(data, path, draw) if draw.random() < 0.7 else mutate(data, draw)
        yield f"{name}, number {number}", READERS[reader], changed


def test_changed_files_are_read_or_refused(
    originals: dict[str, tuple[bytes, str]], tmp_path: Path
) -> None:
    path = tmp_path / "changed.pkl"
    for data, reader in originals.values():
        path.write_bytes(data)
        READERS[reader](path)
    outcomes: Counter[str] = Counter()
    listener, slowest = Listener(), 0.0
    for name, reader, data in mutants(originals, path):
        path.write_bytes(data)
        start, said = time.process_time(), ""
        listener.on = True
        try:
            reader(path)
        except IloError as error:
            said = str(error)
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {str(error)[:500]}") from error
        finally:
            listener.on = False
        outcomes["refused" if said else "read"] += 1
        slowest = max(slowest, time.process_time() - start)
        assert len(said) < 2000, name
        assert not listener.seen, f"{name}: {listener.seen}"
        assert slowest < SECONDS, name
    print(f"\n{MUTATIONS} mutations: {dict(outcomes)}, slowest {slowest:.2f} s")
    assert outcomes["refused"] > outcomes["read"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["changed.pkl"]
