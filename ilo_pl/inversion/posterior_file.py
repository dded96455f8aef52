"""Files of samples: ``posterior/<id>.safetensors`` of a run folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ilo_pl.errors import InputError
from ilo_pl.inversion.posterior import Mixing, Posterior

FORMAT = "ilo_pl.posterior/1"
LEVEL = 0.9
VARIABLES = "variables."


def save_posterior(path: Path, posterior: Posterior) -> None:
    """Write samples, what makes them, and maps as numbers.

    ``samples`` are uint8; ``mean``, ``std``, ``low_90`` and ``high_90``, on [-1, 1], are float16; ``variables.<name>`` are
    as they were drawn.

    Args:
        path: the file.
        posterior: the samples of one image.
    """
    low, high = posterior.interval(LEVEL)
    maps = {"mean": posterior.mean, "std": posterior.std, "low_90": low, "high_90": high}
    tensors = {
        "samples": posterior.samples.contiguous(),
        **{name: value.half().contiguous() for name, value in maps.items()},
        **{f"{VARIABLES}{n}": v.contiguous() for n, v in posterior.variables.items()},
    }
    metadata = {"format": FORMAT, "mixing": json.dumps(asdict(posterior.mixing))}
    safetensors.torch.save_file(tensors, path, metadata)


def load_posterior(path: Path) -> Posterior:
    """Read what :func:`save_posterior` wrote.

    Raises:
        InputError: the file is not one.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        samples = tensors["samples"]
        if samples.dtype != torch.uint8 or samples.ndim != 4 or not len(samples):
            raise ValueError("its samples are no pictures of bytes")
        variables = {
            name.removeprefix(VARIABLES): value
            for name, value in tensors.items()
            if name.startswith(VARIABLES)
        }
        return Posterior(samples, variables, Mixing(**json.loads(metadata["mixing"])))
    except Exception as error:  # on damaged files safetensors and torch raise nearly anything
        raise InputError(f"{path} cannot be read as samples: {error}.") from error
