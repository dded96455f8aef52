"""What a search belongs to, by content: it must not go on with other measurements under the same names.

Measurements and operators are floating-point numbers that another machine, or another number of threads, may
round otherwise. So they are not hashed but sketched: a few sums with fixed random signs, which rounding hardly
moves and other content does.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.task import InverseTask

SKETCH = 4
# Of a tensor's root mean square. A sum moves by about (change of a value) / sqrt(number of values).
TOLERANCE = 1e-4
PLAIN = (bool, int, float, str)
# Weights do not change while they are searched through; hashing them takes a second a gigabyte.
_weights: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def fingerprint(batch: Batch, task: InverseTask) -> dict[str, str]:
    """Return what the search of a batch belongs to: a text for each thing that could be another.

    Args:
        batch: its images and measurements, on any device; nothing is changed.
        task: the problem that they are part of.

    Returns:
        ``images``, ``seed``, ``noise_sigma``, ``generator``, each key of the schedule, such as
        ``schedule.stages.0.lr``, and for each image ``measurements of ID`` and ``operator of ID``;
        :func:`differing` compares two of them.
    """
    found = {
        "images": ", ".join(batch.ids),
        "seed": str(task.seed),
        "noise_sigma": repr(task.noise_sigma),
        "generator": _of_weights(task.generator),
        **dict(_flat(task.schedule.model_dump(mode="json"), "schedule")),
    }
    for index, image_id in enumerate(batch.ids):
        found[f"measurements of {image_id}"] = _sketch(batch.measurements[index])
        found[f"operator of {image_id}"] = _of_operator(batch.operator.select([index]))
    return found


def differing(before: Mapping[str, object], now: Mapping[str, str]) -> list[str]:
    """Return the keys in which two fingerprints differ; what only one of them has does not count.

    Args:
        before: what was saved, by this or an older version.
        now: that of the batch which is to go on.
    """
    return [key for key in before if key in now and not _same(before[key], now[key])]


def _same(before: object, now: str) -> bool:
    if before == now:
        return True
    if not isinstance(before, str):
        return False  # the file is damaged
    one, other = before.split(" | "), now.split(" | ")
    return len(one) == len(other) and all(map(_close, one, other))


def _close(before: str, now: str) -> bool:
    """Compare two parts: sketches to their tolerance, anything else to the letter."""
    if before == now:
        return True
    one, other = before.split(), now.split()
    if not before.startswith("sketch:") or one[0] != other[0] or len(one) != len(other):
        return False
    try:
        a, b = [float(value) for value in one[1:]], [float(value) for value in other[1:]]
    except ValueError:
        return False
    limit = TOLERANCE * max(a[0], b[0])
    return all(abs(x - y) <= limit or x == y for x, y in zip(a, b, strict=True))


def _flat(node: object, name: str) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings and lists, and how long lists are, by their dotted keys."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{name}.{key}")
    elif isinstance(node, list):
        yield name, f"{len(node)} items"
        for index, value in enumerate(node):
            yield from _flat(value, f"{name}.{index}")
    else:
        yield name, repr(node)


def _sketch(values: Tensor) -> str:
    """Return shape, root mean square and sums with random signs, scaled to be of that size, as text."""
    name = f"sketch:{'x'.join(map(str, values.shape))}"
    if values.is_meta or not values.numel():
        return name
    flat = values.detach().cpu().double().flatten()
    random = torch.Generator().manual_seed(0)
    numbers = [float(flat.square().mean().sqrt())]
    for _ in range(SKETCH):
        signs = torch.randint(0, 2, flat.shape, generator=random, dtype=torch.int8)
        numbers.append(float(flat @ (2 * signs.double() - 1)) / math.sqrt(len(flat)))
    return " ".join([name, *(f"{number:.9g}" for number in numbers)])


def _of_operator(operator: nn.Module) -> str:
    """Return what an operator is: its classes, plain settings and tensors, as text."""
    return " | ".join(part for module in operator.modules() for part in _parts(module))


def _parts(module: nn.Module) -> Iterator[str]:
    settings = {
        name: value
        for name, value in vars(module).items()
        if name != "training" and (isinstance(value, PLAIN) or _is_shape(value))
    }
    yield f"{type(module).__name__} {settings}"
    tensors = {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }
    for tensor in tensors.values():
        yield _sketch(torch.view_as_real(tensor) if tensor.is_complex() else tensor)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, PLAIN) for v in value)


def _of_weights(generator: nn.Module) -> str:
    known = _weights.get(generator)
    if known is None:
        digest = hashlib.blake2b(type(generator).__name__.encode(), digest_size=16)
        for name, tensor in generator.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            if not tensor.is_meta:
                raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(raw.numpy().data)
        known = _weights[generator] = digest.hexdigest()
    return known
