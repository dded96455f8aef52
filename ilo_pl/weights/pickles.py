"""Read tensors from files of PyTorch that hold more than tensors, without running what they hold.

A pickle is a program. ``torch.load(weights_only=True)`` refuses a file with anything but tensors and
plain containers in it; checkpoints of research code often hold an optimiser's or an argument parser's
objects beside the weights. Here such objects become inert placeholders: their class is never looked up,
and nothing of them is called.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch._utils

from ilo_pl.errors import WeightsError

# All that a state dictionary needs.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}


class Placeholder:
    """Stands for an object of the file that is not looked at."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None:
        """Forget a value."""

    def extend(self, values: object) -> None:
        """Forget values."""


class Unpickler(pickle.Unpickler):
    """Knows a handful of names; every other one is a :class:`Placeholder`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the file stands for."""
        return _ALLOWED.get((module, name), Placeholder)


def load(file: Any, **options: Any) -> Any:
    """Replace ``pickle.load`` in what ``torch.load`` calls."""
    return Unpickler(file, **options).load()


def load_tensors(path: Path) -> Any:
    """Read a file of ``torch.save``; what is neither tensor nor plain container is a placeholder.

    Raises:
        WeightsError: the file cannot be read.
    """
    import sys

    try:
        # torch.load takes the module that it finds Unpickler and load in.
        return torch.load(
            path, map_location="cpu", pickle_module=sys.modules[__name__], weights_only=False
        )
    except Exception as error:
        # A damaged or hostile pickle can fail in any way it likes.
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {error}.") from error
