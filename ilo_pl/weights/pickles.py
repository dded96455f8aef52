"""Read tensors from files of ``torch.save``, without running what they hold.

``torch.load`` is not used: without ``weights_only`` it runs pickles, and hands archives of TorchScript to
``torch.jit.load``, which runs them whatever the pickle module is; with ``weights_only`` it refuses every
file that holds an optimiser's or an argument parser's objects beside the weights. Here the pickle goes
through :class:`ilo_pl.weights.machine.Machine`, and the numbers come straight from the file: each storage
must have the size that is declared, each tensor must lie inside its storage.
"""

from __future__ import annotations

import math
import mmap
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.weights.archive import Archive, DamagedError, ProgramError
from ilo_pl.weights.inert import Budget, Name, Opaque, RefusedError, Table, as_pairs, as_set, brief
from ilo_pl.weights.machine import Machine

# The number that files of torch.save begin with before its version 1.6, and the version behind it.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_HEAD = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
LEGACY_VERSION = 1001
ZIP_HEAD = b"PK\x03\x04"
MAX_DIMENSIONS = 16

_DTYPES = {
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "ShortStorage"): torch.int16,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "BoolStorage"): torch.bool,
    ("torch.storage", "UntypedStorage"): torch.uint8,
}


class Storage:
    """Numbers of one type in a row.

    Args:
        dtype: their type.
        count: how many.
    """

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.data = torch.empty(0, dtype=dtype)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.count * self.dtype.itemsize

    def fill(self, raw: bytes) -> None:
        """Take the numbers."""
        if len(raw) != self.size:
            raise RefusedError(f"{len(raw)} bytes for {self.size} that are declared")
        if raw:
            numbers = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
            # A truth value is 0 or 1; other bytes would be read as they like.
            self.data = numbers != 0 if self.dtype == torch.bool else numbers.view(self.dtype)


def declared(identity: object, budget: Budget) -> tuple[Storage, str, object]:
    """Make the storage that a persistent id describes; return it with its key and its view.

    Raises:
        RefusedError: the id has another form, or declares more than the file can hold.
    """
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise RefusedError("an object stored outside the file that is no tensor")
    kind, key, _, count = identity[1:5]
    dtype = _DTYPES.get(kind.key) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, str) or not _is_count(count):
        raise RefusedError(f"numbers of the type {kind if isinstance(kind, Name) else brief(kind)}")
    storage = Storage(dtype, count)
    budget.spend(storage.size)
    return storage, key, identity[5] if len(identity) == 6 else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _rebuild(storage: object, offset: object, size: object, stride: object) -> Tensor:
    """Make a tensor of numbers, all of which lie inside its storage."""
    if not isinstance(storage, Storage):
        raise RefusedError("a tensor without numbers")
    for numbers in (size, stride):
        if not isinstance(numbers, tuple) or not all(map(_is_count, numbers)):
            raise RefusedError("a tensor of a shape that is none")
    assert isinstance(size, tuple) and isinstance(stride, tuple)
    if not _is_count(offset) or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise RefusedError("a tensor of a shape that is none")
    assert isinstance(offset, int)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if not count:
        return torch.empty(size, dtype=storage.dtype)
    if last >= storage.count or count > storage.count:
        raise RefusedError(f"a tensor of shape {brief(size)} outside of its numbers")
    return torch.as_strided(storage.data, size, stride, offset)


def _parameter(data: object, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise RefusedError("a parameter that is no tensor")
    return data


def _size(sizes: object = ()) -> tuple[Any, ...]:
    if not isinstance(sizes, (tuple, list)):
        raise RefusedError("a shape that is none")
    return tuple(sizes)


def _no_call(*_: object) -> None:
    raise RefusedError("a type of numbers that is called")


def tensor_names(budget: Budget) -> Table:
    """Return what the names build that a state dictionary needs."""

    def rebuild(
        storage: object, offset: object, size: object, stride: object, *_: object
    ) -> Tensor:
        tensor = _rebuild(storage, offset, size, stride)
        # Many tensors that share their numbers are as large as they say once they are copied.
        budget.spend(tensor.numel() * tensor.element_size())
        return tensor

    return {
        ("collections", "OrderedDict"): as_pairs,
        ("builtins", "set"): as_set,
        ("__builtin__", "set"): as_set,
        ("torch", "Size"): _size,
        ("torch", "device"): Opaque,
        ("torch._utils", "_rebuild_tensor"): rebuild,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        **dict.fromkeys(_DTYPES, _no_call),
    }


def is_torch_file(path: Path) -> bool:
    """Whether a file looks like one of ``torch.save``, or like another archive."""
    with path.open("rb") as file:
        head = file.read(32)
    return LEGACY_HEAD in head or head.startswith(ZIP_HEAD)


def load_tensors(path: Path, *, lenient: bool = True, extra: Table | None = None) -> Any:
    """Read a file of ``torch.save``: tensors, numbers, texts and plain containers of them.

    Args:
        path: the file.
        lenient: whether other objects are read as :class:`Opaque`, which is nothing at all; they are
            errors otherwise.
        extra: more names that are read.

    Raises:
        WeightsError: the file is damaged, is a program, or holds what is not read; nothing of it is run.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    try:
        budget = Budget(path.stat().st_size)
        names = {**tensor_names(budget), **(extra or {})}
        with path.open("rb") as file:
            if file.read(4) == ZIP_HEAD:
                return _from_zip(path, names, budget, lenient)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                return load_legacy(whole, names, budget, lenient)
    except ProgramError:
        raise WeightsError(
            f"{path} is an archive of TorchScript, which is a program, and is not run.",
            hint="Where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt').",
        ) from None
    except Exception as error:
        # A damaged or hostile file can fail in any way it likes.
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that could not be read, whatever its reason."""
    if isinstance(error, RefusedError):
        return WeightsError(
            f"{path} was refused: it holds {error}, which no weights need. Nothing in it was run."
        )
    if isinstance(error, (DamagedError, OSError)):
        reason = str(error)
    else:
        reason = f"{type(error).__name__} {str(error)[:200]}".strip()
    return WeightsError(
        f"{path} cannot be read as a PyTorch file: {reason}. Nothing in it was run.",
        hint="The file may be incomplete, or another program's: get it again.",
    )


def _from_zip(path: Path, names: Table, budget: Budget, lenient: bool) -> Any:
    """Read the archive that torch.save writes since version 1.6."""
    with Archive(path) as archive:
        storages: dict[str, Storage] = {}

        def persistent(identity: object) -> Storage:
            storage, key, _ = declared(identity, budget)
            found = storages.get(key)
            if found is None:
                storage.fill(archive.read(f"data/{key}", storage.size))
                found = storages[key] = storage
            elif (found.dtype, found.count) != (storage.dtype, storage.count):
                raise RefusedError("numbers that are declared twice")
            return found

        machine = Machine(names, budget, persistent=persistent, lenient=lenient)
        return machine.load(BytesIO(archive.read("data.pkl")))


def load_legacy(file: Any, names: Table, budget: Budget, lenient: bool) -> Any:
    """Read what torch.save wrote before version 1.6: pickles one behind the other, then the numbers.

    Args:
        file: the file, which knows ``read``, ``readline`` and ``tell``.
        names: the names that are read.
        budget: what it may cost.
        lenient: see :func:`load_tensors`.
    """
    storages: dict[str, Storage] = {}

    def persistent(identity: object) -> Storage:
        storage, key, view = declared(identity, budget)
        if view is not None:
            raise RefusedError("numbers that are a part of others")
        return storages.setdefault(key, storage)

    if Machine({}, budget).load(file) != LEGACY_MAGIC:
        raise DamagedError("it does not begin as one does")
    if Machine({}, budget).load(file) != LEGACY_VERSION:
        raise DamagedError("it has another version")
    system = Machine({}, budget).load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise DamagedError("its numbers have another byte order")
    start = file.tell()
    # The numbers lie behind the tensors that are made of them: once to learn which, once to make them.
    blank = dict.fromkeys(names, Opaque)
    Machine(blank, budget, persistent=persistent, lenient=lenient).load(file)
    keys = Machine({}, budget).load(file)
    if not isinstance(keys, list) or sorted(map(brief, keys)) != sorted(map(brief, storages)):
        raise DamagedError("its numbers are others than its tensors'")
    for key in keys:
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise DamagedError("its numbers are fewer or more than its tensors'")
        storage.fill(file.read(storage.size))
    file.seek(start)
    return Machine(names, budget, persistent=persistent, lenient=lenient).load(file)
