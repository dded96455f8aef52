"""Files that an attacker makes: each would leave a canary behind, fill the memory or run for hours.

Every maker takes a folder and the canary's path, and returns the file. ``READERS`` are the ways in which
the package reads a file of weights.
"""

from __future__ import annotations

import builtins
import gzip
import os
import pickle
import runpy
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

START = b"\x80\x04"


class Reduce:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def op_global(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def stack_global(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(function: bytes, *arguments: str) -> bytes:
    """The opcodes of a call with strings."""
    return function + b"(" + b"".join(map(text, arguments)) + b"tR"


def raw(body: bytes) -> bytes:
    return START + body + b"."


def programs(canary: Path) -> dict[str, bytes]:
    """Pickles that would write the canary, each by another trick."""
    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    script = canary.with_suffix(".py")
    script.write_text(code)
    easy = op_global("dnnlib.util", "EasyDict")
    persistent = op_global("torch_utils.persistence", "_reconstruct_persistent_obj")
    meta = {"type": "class", "version": 6, "module_src": code, "class_name": "G", "state": {}}
    inner = pickle.dumps(Reduce(os.system, shell), 2)
    return {
        "system": pickle.dumps(Reduce(os.system, shell)),
        "system of protocol 0": pickle.dumps(Reduce(os.system, shell), 0),
        "eval": pickle.dumps(Reduce(builtins.eval, code)),
        "exec": raw(call(op_global("builtins", "exec"), code)),
        "Python 2's eval": raw(call(op_global("__builtin__", "eval"), code)),
        "nested name": raw(call(stack_global("torch.serialization", "os.system"), shell)),
        "attribute of a name": raw(
            call(stack_global("collections", "OrderedDict.fromkeys"), shell)
        ),
        "run_path": pickle.dumps(Reduce(runpy.run_path, str(script))),
        "INST": START + b"(" + text(shell) + b"ios\nsystem\n.",
        "OBJ": START + b"(" + op_global("os", "system") + text(shell) + b"o.",
        "NEWOBJ": raw(op_global("subprocess", "Popen") + b"]" + text(shell) + b"a\x85\x81"),
        "NEWOBJ_EX": raw(op_global("subprocess", "Popen") + text(shell) + b"\x85}\x92"),
        "EXT": raw(b"\x82\x01"),
        "persistent id": raw(text(shell) + b"Q"),
        "persistent text": START + b"P" + shell.encode() + b"\n.",
        "persistent call": raw(call(op_global("posix", "system"), shell) + b"Q"),
        "getattr": raw(call(op_global("builtins", "getattr"), shell, "upper")),
        "importer": pickle.dumps(Reduce(builtins.__import__, "this")),
        "write to a class": raw(easy + b"}" + text("__init__") + b"N\x73b"),
        "write to a function": raw(persistent + b"N}" + text("__defaults__") + b"N\x73\x86b"),
        "call of a result": raw(op_global("collections", "OrderedDict") + b"(tR(tR"),
        "pickle in a tensor": raw(
            op_global("torch.storage", "_load_from_bytes")
            + b"(B"
            + len(inner).to_bytes(4, "little")
            + inner
            + b"tR"
        ),
        "torch.load": raw(call(op_global("torch", "load"), str(canary))),
        "jit.load": raw(call(op_global("torch.jit", "load"), str(canary))),
        "hidden source": START
        + b"}"
        + text("G_ema")
        + persistent
        + b"("
        + pickle.dumps(meta, 3)[2:-1]
        + b"tRs.",
    }


def bombs() -> dict[str, bytes]:
    """Pickles of a few hundred bytes that keep Python's unpickler busy or kill it."""
    easy = op_global("dnnlib.util", "EasyDict") + b"(tR"
    keys = b"".join(
        b"\x8a" + bytes([10]) + (i * (2**61 - 1)).to_bytes(10, "little") + b"N"
        for i in range(20_000)
    )
    double = b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(100)
    )
    return {
        "nested frozen sets": raw(b"(\x91q\x00" + b"(h\x00h\x00\x91q\x00" * 60),
        "sets of tuples": raw(b"\x8f(" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"\x90"),
        "tuples as key": raw(b"})q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"Ns"),
        "deep tuple as key": raw(b"})" + b"\x85" * 100_000 + b"Ns"),
        "deep lists": raw(b"]" * 100_000 + b"a" * 99_999),
        "names of names": raw((b")q\x00" + b"h\x00h\x00\x86q\x00" * 80) * 2 + b"\x93"),
        "dictionaries of themselves": raw(easy + b"q\x00h\x00" + text("_modules") + b"h\x00s"),
        "keys that collide": raw(b"}(" + keys + b"u"),
        "doubled tuples": raw(b")q\x00" + double + b"}" + text("G_ema") + b"hds"),
        "a million instructions": raw(b"N0" * 500_001 + b"N"),
        "bytes of four gigabytes": START + b"B\xff\xff\xff\xff",
        "bytes of exabytes": START + b"\x8e" + b"\xff" * 7 + b"\x7f",
        "a long number": START + b"L" + b"9" * 500_000 + b"L\n.",
        "a place in the memo": raw(b"Nr\xff\xff\xff\xff"),
        "a mark too few": raw(b"t"),
        "marks": raw(b"(" * 100_000),
        "copies of a dictionary": raw(
            b"}q\x00(" + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(50_000)) + b"u"
            + (op_global("collections", "OrderedDict") + b"h\x00\x85R0") * 20_000
        ),
    }  # fmt: skip


def tensor(storage: bytes, size: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """The opcodes of a tensor of a storage."""
    return (
        op_global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + offset
        + size
        + stride
        + b"\x89"
        + op_global("collections", "OrderedDict")
        + b")RtR"
    )


def storage(key: str = "0", count: bytes = b"K\x04", kind: str = "FloatStorage") -> bytes:
    """The opcodes of a storage by its persistent id."""
    return (
        b"(" + text("storage") + op_global("torch", kind) + text(key) + text("cpu") + count + b"tQ"
    )


HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x10"
MINUS = b"J\xfb\xff\xff\xff"


def tensors() -> dict[str, bytes]:
    """Pickles for an archive whose storage 0 has four numbers, 16 bytes."""

    def one(body: bytes) -> bytes:
        return raw(b"}" + text("a") + body + b"s")

    four, single = b"K\x04\x85", b"K\x01\x85"
    return {
        "larger than its numbers": one(tensor(storage(), b"K\x05\x85", single)),
        "negative offset": one(tensor(storage(), single, single, MINUS)),
        "offset behind": one(tensor(storage(), single, single, b"K\x04")),
        "huge stride": one(tensor(storage(), b"K\x02\x85", HUGE + b"\x85")),
        "negative stride": one(tensor(storage(), four, MINUS + b"\x85")),
        "negative size": one(tensor(storage(), MINUS + b"\x85", single)),
        "huge by stride 0": one(tensor(storage(), HUGE + b"\x85", b"K\x00\x85")),
        "more strides than sizes": one(tensor(storage(), four, b"K\x01K\x01\x86")),
        "a size that is text": one(tensor(storage(), text("4") + b"\x85", single)),
        "huge declared storage": one(tensor(storage(count=HUGE), four, single)),
        "another type of the same": one(
            tensor(storage(kind="DoubleStorage"), b"K\x02\x85", single)
        ),
        "a member that is missing": one(tensor(storage("7"), four, single)),
        "a key that is a path": one(tensor(storage("../data.pkl"), four, single)),
        "a type that is none": one(tensor(storage(kind="PythonStorage"), four, single)),
        "an id of another form": one(b"(" + text("module") + text("x") + b"tQ"),
        "an id that is a number": one(b"K\x05Q"),
        "tensor of a dictionary": one(tensor(b"}", four, single)),
        "parameter of a text": one(call(op_global("torch._utils", "_rebuild_parameter"), "x")),
    }


def archive(path: Path, data: bytes, members: dict[str, bytes] | None = None) -> Path:
    """Write an archive as torch.save does."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        for name, value in {"data/0": b"\0" * 16, "version": b"3\n", **(members or {})}.items():
            file.writestr(f"archive/{name}", value)
    return path


class Script(torch.nn.Module):
    """A program of TorchScript that writes the canary when it is loaded."""

    def __init__(self, canary: str) -> None:
        super().__init__()
        self.canary = canary

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.canary, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.canary = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), self.canary)


def script(path: Path, canary: Path) -> Path:
    torch.jit.script(Script(str(canary))).save(str(path))
    return path


def archives(folder: Path, canary: Path) -> dict[str, Path]:
    """Archives that are hostile as archives."""
    good = pickle.dumps({"model": {}}, 2)
    made: dict[str, Path] = {}

    def add(name: str) -> Path:
        made[name] = folder / f"{len(made)}.pt"
        return made[name]

    script(add("TorchScript"), canary)
    renamed = add("TorchScript with another name of its constants")
    with zipfile.ZipFile(made["TorchScript"]) as source, zipfile.ZipFile(renamed, "w") as target:
        for entry in source.namelist():
            target.writestr(entry.replace("constants.pkl", "c.pkl"), source.read(entry))
    with zipfile.ZipFile(add("compressed bomb"), "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"N" * (100 << 20))
    with zipfile.ZipFile(add("member twice"), "w") as file:
        file.writestr("archive/data.pkl", good)
        file.filelist.append(file.filelist[0])
        file.NameToInfo["x"] = file.filelist[0]
    archive(add("member outside"), good, {"../../canary": b"x"})
    with zipfile.ZipFile(add("link"), "w") as file:
        file.writestr("archive/data.pkl", good)
        link = zipfile.ZipInfo("archive/data/0")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, str(canary))
    many = (
        b"(" + tensor(storage(count=b"J\0\0\x04\0"), b"J\0\0\x04\0\x85", b"K\x01\x85") * 60 + b"l"
    )
    archive(add("shared many times"), raw(many), {"data/0": b"\0" * (1 << 20)})
    archive(add("two pickles"), good, {"inner/data.pkl": good})
    with zipfile.ZipFile(add("no pickle"), "w") as file:
        file.writestr("archive/data/0", b"x")
    archive(add("another byte order"), good, {"byteorder": b"big"})
    whole = archive(add("declared length of the directory"), good).read_bytes()
    made["declared length of the directory"].write_bytes(
        whole[:-10] + struct.pack("<I", 0x7FFFFFFF) + whole[-6:]
    )
    add("cut").write_bytes(whole[: len(whole) // 2])
    four = raw(tensor(storage(), b"K\x04\x85", b"K\x01\x85"))
    size = archive(folder / "size.zip", four).read_bytes()
    add("declared size of a member").write_bytes(
        size.replace(b"\x10\0\0\0\x10\0\0\0", b"\xf0\xff\xff\x7f" * 2)
    )
    add("nothing").write_bytes(b"")
    os.mkfifo(add("a pipe that nobody writes to"))
    add("a folder").mkdir()
    return made  # fmt: skip


def legacy(data: bytes, tail: bytes = b"") -> bytes:
    """A file of torch.save before its version 1.6 with another pickle in it."""
    head = b"".join(
        pickle.dumps(v, 2)
        for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001})
    )
    return head + data + tail


def legacies() -> dict[str, bytes]:
    body = tensors()["larger than its numbers"].replace(b"K\x05\x85", b"K\x04\x85")
    return {
        "keys of others": legacy(body, pickle.dumps(["1"], 2)),
        "no keys": legacy(body, pickle.dumps(None, 2)),
        "numbers missing": legacy(body, pickle.dumps(["0"], 2)),
        "numbers of another count": legacy(
            body, pickle.dumps(["0"], 2) + (1 << 40).to_bytes(8, "little") + b"\0" * 16
        ),
        "another version": legacy(body)[:20] + b"\x80\x02K\x01." + legacy(body)[30:],
        "keys that nest": legacy(body, raw(b")q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"\x85")),
    }


def safetensors_files() -> dict[str, bytes]:
    def header(text: bytes, rest: bytes = b"") -> bytes:
        return len(text).to_bytes(8, "little") + text + rest

    entry = b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[%s]}}'
    return {
        "header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
        "header of a gigabyte": (1 << 30).to_bytes(8, "little") + b"{" + b" " * 1000,
        "header that nests": header(b'{"a":' + b"[" * 100_000),
        "header of nine megabytes": header(b"{" + b" " * (9 << 20) + b"}"),
        "shape larger than its numbers": header(entry % (b"1000000000,1000000000", b"0,4"), b"\0" * 4),
        "negative shape": header(entry % (b"-1", b"0,4"), b"\0" * 4),
        "offsets outside": header(entry % (b"1", b"1000,1004"), b"\0" * 4),
        "offsets backwards": header(entry % (b"1", b"4,0"), b"\0" * 4),
        "no JSON": header(b"{not json}"),
    }  # fmt: skip


def gzip_bomb() -> bytes:
    return gzip.compress(b"\x80\x04" + b"N" * (100 << 20), 1)


def state_that_declares(width: int) -> OrderedDict[str, torch.Tensor]:
    """A few numbers that stand for a huge BigGAN."""
    return OrderedDict(
        {
            "embeddings.weight": torch.zeros(2, 3),
            "generator.bn.weight": torch.zeros(width),
            "generator.bn.running_means": torch.zeros(51, 2),
            "generator.layers.0.conv_0.weight_orig": torch.zeros(1, width, 1, 1),
            "generator.layers.0.conv_3.weight_orig": torch.zeros(width, 1, 1, 1),
            "generator.layers.1.gamma": torch.zeros(1),
        }
    )
