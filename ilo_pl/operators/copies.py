"""Copies of modules on other devices, made once and kept while the original stays what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Version = tuple[int, torch.dtype, torch.device]
Module = TypeVar("Module", bound=nn.Module)


def version(tensor: Tensor) -> Version:
    """Return what changes when a tensor is written to, cast or moved in place."""
    return -1 if tensor.is_inference() else tensor._version, tensor.dtype, tensor.device


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Return all parameters and buffers of a module."""
    return [*module.parameters(), *module.buffers()]


def copy_on(module: Module, device: torch.device, made: Mapping[int, object]) -> Module:
    """Return a copy of a module whose tensors are on a device; none is copied where it was.

    Args:
        module: the module.
        device: where the copy is to be.
        made: copies that are there already, by the ``id`` of what they are copies of.
    """
    # Made in inference mode they could not be used where gradients are taken.
    with torch.inference_mode(False), torch.no_grad():
        moved: dict[int, object] = {id(t): _moved(t, device) for t in tensors_of(module)}
    return copy.deepcopy(module, {**moved, **made})


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    moved = tensor.detach().to(device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(moved, requires_grad=tensor.requires_grad)
    return moved


class Copies:
    """The copies of many modules, by module and device.

    They lie beside the modules and not in them, so that a copy never brings the copies of its original.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[nn.Module, dict[torch.device, _Copy]] = WeakKeyDictionary()

    def get(self, module: Module, device: torch.device, make: Callable[[], Module]) -> Module:
        """Return the copy that was made last, or make it when a tensor of the module has changed."""
        copies = self._kept.setdefault(module, {})
        kept = copies.get(device)
        if kept is None or not kept.is_of(module):
            kept = copies[device] = _Copy(module, make())
        assert isinstance(kept.module, type(module))
        return kept.module


class _Copy:
    """A copy, and the tensors that its original had."""

    def __init__(self, original: nn.Module, module: nn.Module) -> None:
        self.module = module
        self._source = [(tensor, version(tensor)) for tensor in tensors_of(original)]

    def is_of(self, original: nn.Module) -> bool:
        """Return whether the original still has the same tensors, as they were."""
        now = tensors_of(original)
        return len(now) == len(self._source) and all(
            tensor is old and version(tensor) == then
            for tensor, (old, then) in zip(now, self._source, strict=True)
        )
