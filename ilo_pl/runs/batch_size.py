"""How many images fit on a device at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ilo_pl.inversion.stage import Engine
from ilo_pl.inversion.task import InverseTask
from ilo_pl.inversion.walk import Walk
from ilo_pl.runs.trainer import Precision

# The rest is for fragments, and for what the steps after the first need more.
SHARE = 0.8
MOST = 256


def fitting(one: int, two: int, available: int) -> int:
    """Return how many images fit, at least 1 and at most 256.

    Memory is taken to grow linearly with the number of images.

    Args:
        one: peak bytes of a step with one image.
        two: peak bytes of a step with two.
        available: bytes that may be used; four fifths of them are.
    """
    each = max(two - one, 1)
    return max(1, min(MOST, 1 + int(SHARE * available - one) // each))


def measured_batch_size(
    make: Callable[[int], InverseTask], images: int, device: torch.device, precision: Precision
) -> int:
    """Return how many images to search at a time: on CUDA as many as fit, elsewhere one.

    On a CPU one image fills the cores, and two cost twice as much (docs/benchmarks.md).

    Args:
        make: returns the task for a batch size.
        images: how many there are.
        device: where they are searched.
        precision: of the search.
    """
    if device.type != "cuda" or images == 1:
        return 1
    one, two = (_peak_bytes(make(count), device, precision) for count in (1, 2))
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    fit = fitting(one, two, free + torch.cuda.memory_allocated(device))
    # The chains of an image are entries of a batch.
    return max(1, min(images, fit // make(1).schedule.chains))


def _peak_bytes(task: InverseTask, device: torch.device, precision: Precision) -> int:
    """Return the most bytes that are allocated at once in an uncompiled step from the first split."""
    task.generator.to(device)
    batch = task.source.load(task.units[0]).to(device)
    torch.cuda.reset_peak_memory_stats(device)
    stage = Walk(task, batch, Engine(task.generator, task.schedule.latent_space)).stage
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=precision != "32-true"):
        loss = stage.training_step()
    loss.backward()  # type: ignore[no-untyped-call]
    return int(torch.cuda.max_memory_allocated(device))
