"""What users of Python hand to a task: converted where it is clear what is meant, refused with the way out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.operators import ForwardOperator, FunctionOperator, LinearOperator

PICTURES = "Pictures are numbers from -1 (black) to 1 (white): y / 127.5 - 1 for grey levels y."
# Noise may go beyond what images in [-1, 1] give; grey levels up to 255 go far beyond it.
FAR_BEYOND = 32


def check_generator(given: object) -> None:
    """Refuse what is no generator, or one of another precision than float32.

    Raises:
        ConfigurationError: what it is, and what to do.
    """
    if not isinstance(given, SplitGenerator):
        raise ConfigurationError(
            f"generator is {_what(given)}, not a SplitGenerator.",
            hint="TinyGenerator() and MobileStyleGAN.pretrained() make one; SequentialGenerator makes one of "
            "a list of modules.",
        )
    for name, weight in given.named_parameters():
        if weight.is_floating_point() and weight.dtype != torch.float32:
            raise ConfigurationError(
                f"The generator's weights are {_dtype(weight)} ({name}); the search needs float32.",
                hint="Call generator.float(); for speed, give the Trainer precision='bf16-mixed'.",
            )


def check_schedule(given: object) -> None:
    """Refuse what is no schedule.

    Raises:
        ConfigurationError: what it is, and what to do.
    """
    if isinstance(given, str):
        raise ConfigurationError(
            f"schedule = {given!r} is text, not a Schedule.",
            hint=f"load_method({given!r}) returns the schedule of that name.",
        )
    if not isinstance(given, Schedule):
        raise ConfigurationError(
            f"schedule is {_what(given)}, not a Schedule.",
            hint="Schedule(stages=(Stage(split=0, steps=200), ...)) makes one, load_method('ilo') another.",
        )


def check_batch_size(given: object) -> None:
    """Refuse what is no number of images.

    Raises:
        ConfigurationError: what it is.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigurationError(
            f"batch_size = {given!r}; it must be at least 1.", hint="Give a whole number of images."
        )


def as_operator(given: object, generator: SplitGenerator) -> ForwardOperator:
    """Return an operator of a generator's images; a function or module of them becomes one.

    Raises:
        ConfigurationError: it is neither, or cannot be used as one.
        InputError: it is for images of another shape.
    """
    if given is None:
        raise ConfigurationError("Measurements given as a tensor need their operator.")
    if isinstance(given, ForwardOperator):
        if given.image_shape != generator.image_shape:
            raise InputError(
                f"{type(given).__name__} measures images of shape {given.image_shape}; "
                f"{type(generator).__name__} makes {generator.image_shape}."
            )
        return given
    if type(given).__module__.partition(".")[0] == "deepinv":
        raise ConfigurationError(
            f"operator is {_what(given)}, a physics of DeepInverse.",
            hint="ilo_pl.operators.deepinv.deepinv_operator(physics, image_shape) makes an operator of it.",
        )
    if callable(given) and not isinstance(given, type):
        return FunctionOperator(given, generator.image_shape)
    raise ConfigurationError(
        f"operator is {_what(given)}, not a ForwardOperator.",
        hint="Give an instance of ilo_pl.operators, such as Identity(generator.image_shape) or Mask(mask), or a "
        "differentiable function of images.",
    )


def as_measurements(given: object, shape: tuple[int, ...]) -> Tensor:
    """Return measurements as a tensor ``(B, *shape)`` of real floating-point numbers.

    Args:
        given: a tensor or a NumPy array.
        shape: shape of one image's measurements.

    Raises:
        InputError: it is neither, holds other numbers, or has another shape.
    """
    if isinstance(given, np.ndarray) and given.dtype.kind in "biufc":
        given = torch.from_numpy(np.ascontiguousarray(given))
    if not isinstance(given, Tensor):
        raise InputError(
            f"measurements is {_what(given)}, not a tensor (B, ...).",
            hint="torch.stack() makes one of a list of tensors; load_image(path).rgb[None] is that of a picture.",
        )
    if given.is_complex():
        raise InputError(
            "The measurements are complex numbers.",
            hint="FunctionOperator measures pairs of real ones: give torch.view_as_real(measurements).",
        )
    if not given.is_floating_point():
        raise InputError(
            f"The measurements are {_dtype(given)}, not floating-point numbers.",
            hint=f"{PICTURES} Other measurements take .float().",
        )
    if tuple(given.shape[1:]) != shape or not len(given):
        raise InputError(
            f"Measurements have shape {tuple(given.shape)}; the operator gives "
            f"(B, {', '.join(map(str, shape))}).",
            hint=_reshaping(tuple(given.shape), shape),
        )
    return given


def _reshaping(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if found == shape:
        return "One image is a batch of one: measurements[None]."
    if len(shape) == 3 and found[-3:] == (*shape[1:], shape[0]):
        batch = "" if len(found) == 4 else "[None]"
        return f"Channels come before height and width: measurements{batch}.permute(0, 3, 1, 2)."
    return "Put the images of a batch along the first dimension."


def as_ids(given: object, count: int) -> tuple[str, ...]:
    """Return one id for each of ``count`` images; ``image0``, ``image1``, ... when none are given.

    Raises:
        InputError: they are not as many, not different, not text, or cannot be file names.
    """
    if given is None:
        return tuple(f"image{i}" for i in range(count))
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(
            f"ids is {_what(given)}, not a list.",
            hint="Give one text for each image: ids=['photo'].",
        )
    other = [i for i in given if not isinstance(i, str)]
    if other:
        raise InputError(
            f"The id {other[0]!r} is {_what(other[0])}, and results are named by ids, which are text.",
            hint="ids=[str(i) for i in ids] makes them text.",
        )
    if len(given) != count or len(set(given)) != count:
        raise InputError(f"{count} measurements need {count} different ids; got {list(given)}.")
    bad = [i for i in given if not i or i.startswith(".") or set(i) & set("/\\\0")]
    if bad:
        raise InputError(f"The id {bad[0]!r} cannot be a file name, and results are named by ids.")
    return tuple(given)


def check_scale(operator: ForwardOperator, measurements: Tensor, ids: Sequence[str]) -> None:
    """Refuse measurements of a linear operator that no image in [-1, 1] comes near, such as grey levels.

    Raises:
        InputError: which image's, and how large they are.
    """
    if not isinstance(operator, LinearOperator):
        return
    white = torch.ones(1, *operator.image_shape, device=operator.device)
    # What takes differences sees nothing in a white image.
    signs = torch.rand(white.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    one = operator.select([0])
    with torch.no_grad():
        usual = max(
            float(one(x).abs().max()) for x in (white, white.where(signs.to(white.device), -white))
        )
    for image_id, largest in zip(ids, measurements.abs().flatten(1).amax(1).tolist(), strict=True):
        if 0 < FAR_BEYOND * usual < largest:
            raise InputError(
                f"The measurements of {image_id!r} go up to {largest:.4g}; images in [-1, 1] give about "
                f"{usual:.2g}.",
                hint=PICTURES,
            )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _what(given: object) -> str:
    """Return what something is, in words."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return "None" if given is None else f"of type {type(given).__name__}"
