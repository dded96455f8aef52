"""Read a network pickled by NVIDIA's code without running anything that is in the file.

A pickle is a program that calls what it names. NVIDIA's files name, besides tensors, one function that
compiles Python source stored in the file. Here a handful of names stand for functions of this module
that build inert values; every other name is an error, before anything could be called. The unpickler
looks no name up by import or attribute, so dotted names, aliases and submodules have no way in.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
import torch._utils
from torch import Tensor

from ilo_pl.errors import WeightsError


class RefusedError(Exception):
    """The pickle asks for something that no network file needs."""


class Persistent:
    """What ``torch_utils.persistence`` stores of an object: the name of its class and its attributes.

    The class's source code, which the file holds too, is dropped unread.
    """

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name = class_name
        self.state = state

    def __setstate__(self, state: object) -> NoReturn:
        raise RefusedError("a stored object with a second state")


class _Name:
    """A callable that pickles may call and do nothing else with: BUILD could write to a function."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise RefusedError(f"a change of {name!r} of a function")

    def __setstate__(self, state: object) -> NoReturn:
        raise RefusedError("a change of a function")


class _Sealed(type):
    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise RefusedError(f"a change of {name!r} of a class")


class _Dict(dict[Any, Any], metaclass=_Sealed):
    """Stands for ``dnnlib.EasyDict``: a dictionary."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if state:
            raise RefusedError("a dictionary with attributes")


class _DType:
    """Stands for a NumPy type; only plain numbers are made of it."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *flags: object) -> None:
        kinds = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
        if code not in kinds:
            raise RefusedError(f"NumPy's type {code!r}")
        self.code = str(code)
        self.order = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        self.order = ">" if order == ">" else "<"


def _scalar(dtype: object, data: object) -> float | int | bool:
    if not isinstance(dtype, _DType) or not isinstance(data, (bytes, str)):
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


def _storage(data: object) -> Any:
    if not isinstance(data, bytes):
        raise RefusedError("a tensor that is not stored as bytes")
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, (torch.TypedStorage, torch.UntypedStorage)):
        raise RefusedError(f"a {type(storage).__name__} in place of a tensor's numbers")
    return storage


def _tensor(storage: object, offset: int, size: Any, stride: Any, *rest: object) -> Tensor:
    if not isinstance(storage, (torch.TypedStorage, torch.UntypedStorage)):
        raise RefusedError("a tensor without numbers")
    rebuild: Callable[..., Tensor] = torch._utils._rebuild_tensor_v2
    return rebuild(storage, offset, size, stride, False, OrderedDict())


def _parameter(data: object, *rest: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise RefusedError("a parameter that is no tensor")
    return data


# Wrapped, because a class or function that a pickle holds can be written to.
_NAMES: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Name(_persistent),
    ("torch.storage", "_load_from_bytes"): _Name(_storage),
    ("torch._utils", "_rebuild_tensor_v2"): _Name(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Name(_parameter),
    ("torch", "Size"): _Name(lambda sizes=(): tuple(sizes)),
    ("collections", "OrderedDict"): _Name(lambda items=(): OrderedDict(items)),
    ("builtins", "set"): _Name(lambda items=(): set(items)),
    ("__builtin__", "set"): _Name(lambda items=(): set(items)),
    ("dnnlib.util", "EasyDict"): _Dict,
    ("numpy", "dtype"): _Name(_DType),
    ("numpy.core.multiarray", "scalar"): _Name(_scalar),
    ("numpy._core.multiarray", "scalar"): _Name(_scalar),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise RefusedError("an object stored outside the file")


def unpickle(file: io.BufferedIOBase, what: str) -> Any:
    """Read one pickle of tensors, plain containers, numbers and :class:`Persistent` objects.

    Args:
        file: the pickle.
        what: its name in errors.

    Raises:
        WeightsError: the pickle is damaged, or names anything else; nothing of it was run.
    """
    try:
        return _Unpickler(file).load()
    except RefusedError as error:
        raise WeightsError(
            f"{what} was refused: it holds {error}, which no PyTorch file of a StyleGAN2 needs. "
            "Nothing in it was run.",
            hint=(
                "Files of NVIDIA's TensorFlow code can be rewritten by legacy.py of "
                "stylegan2-ada-pytorch."
                if "tflib" in str(error)
                else ""
            ),
        ) from None
    except Exception as error:
        # A damaged or hostile pickle can fail in any way it likes.
        raise WeightsError(
            f"{what} cannot be read: {type(error).__name__}: {error}.",
            hint="The file may be incomplete: get it again.",
        ) from None
