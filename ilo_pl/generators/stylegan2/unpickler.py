"""Read a network pickled by NVIDIA's code without running anything that is in the file.

NVIDIA's files name, besides tensors, one function that compiles Python source stored in the file. Here the
source is dropped unread; a dozen names build tensors, containers, numbers and :class:`Persistent`, and any
other name is an error (:mod:`ilo_pl.weights.machine`).
"""

from __future__ import annotations

import gzip
import mmap
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ilo_pl.errors import WeightsError
from ilo_pl.weights.inert import Budget, Name, RefusedError, Stateful, Table, brief
from ilo_pl.weights.machine import Machine
from ilo_pl.weights.pickles import Storage, load_legacy, tensor_names, unreadable

GZIP = b"\x1f\x8b"
# Random numbers do not shrink; what grows more than this is made to fill the memory.
MAX_GROWTH = 4
SMALL = 64 << 20


class Persistent(Stateful):
    """What ``torch_utils.persistence`` stores of an object: the name of its class and its attributes.

    Args:
        class_name: the class.
        state: the attributes.
    """

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name = class_name
        self.state = state

    def take_state(self, state: object) -> NoReturn:
        """Raise: its state is one of the arguments it is made of."""
        raise RefusedError("a stored object with a second state")


class _DType(Stateful):
    """Stands for a NumPy type; only plain numbers are made of it."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
        if not isinstance(code, str) or code not in kinds:
            raise RefusedError(f"NumPy's type {brief(code)}")
        self.code = code
        self.order = "<"

    def take_state(self, state: object) -> None:
        """Take the byte order."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|"):
            raise RefusedError("a NumPy type of unknown order")
        self.order = ">" if state[1] == ">" else "<"


def _scalar(dtype: object, data: object) -> float | int | bool:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, str)) or len(data) > 8:
        raise RefusedError("a NumPy scalar that is no number")
    raw = data if isinstance(data, bytes) else data.encode("latin1")
    value: float | int | bool = np.frombuffer(raw, dtype.order + dtype.code, count=1)[0].item()
    return value


def _persistent(meta: object) -> Persistent:
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise RefusedError("a stored object without a description")
    name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise RefusedError("a stored object without a name or a state")
    return Persistent(name, state)


def _dict(*arguments: object) -> dict[Any, Any]:
    """Stand for ``dnnlib.EasyDict``."""
    if len(arguments) > 1 or not all(isinstance(a, dict) for a in arguments):
        raise RefusedError("a dictionary of what is none")
    return {k: v for a in arguments if isinstance(a, dict) for k, v in a.items()}


def _reconstructor(kind: object, base: object, state: object = None) -> dict[Any, Any]:
    """Stand for what protocols 0 and 1 make objects with: only dictionaries are made so."""
    if not isinstance(kind, Name) or kind.name != "EasyDict" or not isinstance(state, dict):
        raise RefusedError("an object that is no dictionary")
    return _dict(state)


def _encode(text: object, codec: object = "latin1") -> bytes:
    """Stand for what protocols 0 to 2 make bytes with."""
    if not isinstance(text, str) or codec != "latin1":
        raise RefusedError("a text that stands for no bytes")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if arguments:
        raise RefusedError("bytes made of something")
    return b""


def _names(budget: Budget) -> Table:
    """Return what the names of NVIDIA's files build; the tensors in them are on the same budget."""
    tensors = tensor_names(budget)

    def storage(data: object) -> Storage:
        if not isinstance(data, bytes):
            raise RefusedError("a tensor that is not stored as bytes")
        found = load_legacy(BytesIO(data), tensors, budget, lenient=False)
        if not isinstance(found, Storage):
            raise RefusedError("something else in place of a tensor's numbers")
        return found

    return {
        **tensors,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
        ("torch.storage", "_load_from_bytes"): storage,
        ("dnnlib.util", "EasyDict"): _dict,
        ("builtins", "dict"): _dict,
        ("__builtin__", "dict"): _dict,
        ("builtins", "bytes"): _bytes,
        ("__builtin__", "bytes"): _bytes,
        ("_codecs", "encode"): _encode,
        ("copyreg", "_reconstructor"): _reconstructor,
        ("copy_reg", "_reconstructor"): _reconstructor,
        ("numpy", "dtype"): _DType,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
    }


def unpickle(path: Path) -> Any:
    """Read one pickle of tensors, plain containers, numbers and :class:`Persistent` objects.

    Args:
        path: the file; it may be compressed by gzip.

    Raises:
        WeightsError: the pickle is damaged, or names anything else; nothing of it was run.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            if whole[:2] != GZIP:
                return _run(whole, len(whole))
            limit = MAX_GROWTH * len(whole) + SMALL
            with gzip.open(path) as unpacked:
                data = unpacked.read(limit + 1)
            if len(data) > limit:
                raise RefusedError(f"more than {limit} bytes, compressed")
            return _run(BytesIO(data), len(data))
    except Exception as error:
        # A damaged or hostile pickle can fail in any way it likes.
        found = unreadable(path, error)
        if "tflib" not in found.what:
            raise found from None
        raise WeightsError(
            found.what,
            hint="Files of NVIDIA's TensorFlow code can be rewritten by legacy.py of stylegan2-ada-pytorch.",
        ) from None


def _run(file: Any, size: int) -> Any:
    budget = Budget(size)
    return Machine(_names(budget), budget).load(file)
