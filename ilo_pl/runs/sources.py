"""Images on disk -> measurements, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.generators import SplitGenerator
from ilo_pl.generators.resized import size_of
from ilo_pl.inversion.source import Batch, check_finite
from ilo_pl.io.encoded import PictureFile
from ilo_pl.io.images import LoadedImage, image_size, load_image
from ilo_pl.io.measurements import load_measurements, load_origin
from ilo_pl.operators import ForwardOperator
from ilo_pl.operators.config import OperatorSpec
from ilo_pl.operators.makers import OperatorConfig, OperatorMaker
from ilo_pl.operators.noise import NoiseModel, NoiseSpec
from ilo_pl.runs.batches import Remembering, first_usable
from ilo_pl.spec import Spec

# A file, or a picture that was read already.
Picture = PictureFile | LoadedImage


class ImageFolder(Remembering):
    """Images that are measured when they are needed, or that are the measurements themselves.

    Args:
        files: image files by id, or pictures that were read already.
        maker: makes the operator of some images.
        generator: what makes such images.
        seed: seed of the noise.
        simulate: measure the images; otherwise they are what was measured.
        noise: what is added to simulated measurements; given ones have theirs already.
    """

    def __init__(
        self,
        files: Mapping[str, Picture],
        maker: OperatorMaker,
        generator: SplitGenerator,
        seed: int,
        *,
        simulate: bool = True,
        noise: NoiseModel,
    ) -> None:
        self.ids = tuple(files)
        self._files = dict(files)
        self._generator = generator
        self._maker = maker
        self._seed = seed
        self._simulate = simulate
        self._noise = noise
        self._asked: tuple[str, ...] = ()
        self._decoded: dict[str, LoadedImage] = {}

    def check(self, together: int = 1) -> dict[str, str]:
        """Look at the header of every image; read the first ones whole, to try the operator.

        Args:
            together: how many images the first batch has.

        Returns:
            Why images cannot be used, by id. Others may still turn out to be damaged when they are read.

        Raises:
            InputError: no image can be used.
        """
        errors: dict[str, InputError] = {}
        for image_id, path in self._files.items():
            try:
                size = _size(path) if isinstance(path, LoadedImage) else image_size(path)
                if self._simulate:
                    key = self._maker.fitting(size)
                    measured = f"If it is what was measured: simulate=false {key}." if key else ""
                    check_generated(self._name(image_id), size, self._generator, measured)
            except InputError as error:
                errors[image_id] = error
        good = [i for i, image_id in enumerate(self.ids) if image_id not in errors]
        return first_usable(self, good, errors, together)

    def _load(self, indices: tuple[int, ...]) -> Batch:
        ids = tuple(self.ids[i] for i in indices)
        images = self._decode(ids)
        operator = self._maker.make(ids, images)
        if self._simulate:
            measurements = self._measure(ids, images, operator)
        else:
            measurements = self._given(ids, images, operator)
        for image_id, values in zip(ids, measurements, strict=True):
            check_finite(image_id, values)
        return Batch(ids, measurements, operator)

    def _decode(self, ids: Sequence[str]) -> list[LoadedImage]:
        """Read images; of a batch that cannot be used they are kept, to be tried one by one."""
        if not set(ids) <= set(self._asked):
            self._asked, self._decoded = tuple(ids), {}
        for image_id in ids:
            if image_id not in self._decoded:
                file = self._files[image_id]
                self._decoded[image_id] = (
                    file if isinstance(file, LoadedImage) else load_image(file)
                )
        return [self._decoded[image_id] for image_id in ids]

    def _name(self, image_id: str) -> object:
        """Return what errors call an image."""
        file = self._files[image_id]
        return f"The image {image_id!r}" if isinstance(file, LoadedImage) else file

    def _measure(
        self, ids: Sequence[str], images: Sequence[LoadedImage], operator: ForwardOperator
    ) -> Tensor:
        for image_id, image in zip(ids, images, strict=True):
            check_generated(self._name(image_id), _size(image), self._generator)
        measured: Tensor = operator(torch.stack([image.rgb for image in images]))
        # What a mask hides has no noise either.
        return operator.hide(self._noise.apply(measured, self._seed, ids))

    def _given(
        self, ids: Sequence[str], images: Sequence[LoadedImage], operator: ForwardOperator
    ) -> Tensor:
        shape = operator.measurement_shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigurationError(
                f"{type(operator).__name__} does not measure pictures, so that its measurements cannot "
                "be read from one.",
                hint="Give the clean image and leave simulate=true, or use InverseTask in Python.",
            )
        for image_id, image in zip(ids, images, strict=True):
            key = self._maker.fitting(_size(image))
            hint = f"{key} measures images of this size." if key else ""
            wanted = (3, *shape[1:])
            if not hint and wanted == self._generator.image_shape:
                hint = _other_size(self._generator, _size(image))
            check_size(self._name(image_id), _size(image), wanted, "the operator measures", hint)
        given = torch.stack([image.rgb for image in images])
        given = given if shape[0] == 3 else given.mean(1, keepdim=True)
        # Only what the operator can measure counts: a masked picture is zero where the mask is.
        return operator.hide(given)


class _Made(Spec):
    """How measurements were made, typed."""

    operator: OperatorSpec
    noise: NoiseSpec


class MeasurementFolder(Remembering):
    """Measurements from files; see :mod:`ilo_pl.io.measurements`.

    Args:
        files: files of measurements by image id, all of one origin.
        operator: the operator that the run is configured with.
        noise: the noise model that it is configured with.
        generator: what makes the images that they measure.

    Attributes:
        origin: how the measurements were made.

    Raises:
        ConfigurationError: the run is configured with another operator or noise model.
        InputError: a file cannot be used, or belongs to images of another size.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        operator: OperatorConfig,
        noise: NoiseModel,
        generator: SplitGenerator,
    ) -> None:
        self.ids = tuple(files)
        self._files = dict(files)
        self._shape = generator.image_shape
        first = next(iter(files.values()))
        self.origin = load_origin(first)[1]
        stored: dict[str, Any] = {"operator": self.origin.operator, "noise": self.origin.noise}
        try:
            made = _Made(**stored)
        except ConfigurationError as error:
            raise InputError(f"The measurements {first} cannot be used. {error}") from None
        _same(first, "operator", made.operator, operator)
        _same(first, "noise", made.noise, noise)
        if self.origin.image_shape != self._shape:
            _, height, width = self.origin.image_shape
            raise InputError(
                f"{first} measures images of shape {self.origin.image_shape}; the generator makes "
                f"{self._shape}.",
                hint=_other_size(generator, (width, height)),
            )
        self._operator = operator
        self._fixed: ForwardOperator | None = None

    def check(self, together: int = 1) -> dict[str, str]:
        """Read the first files, or one that can be used.

        Args:
            together: how many images the first batch has.

        Returns:
            Why those before it cannot, by id.

        Raises:
            InputError: no file can be used.
        """
        return first_usable(self, range(len(self.ids)), {}, together)

    def _load(self, indices: tuple[int, ...]) -> Batch:
        ids = tuple(self.ids[i] for i in indices)
        saved = [load_measurements(self._files[image_id]) for image_id in ids]
        if len({(m.values.shape, *(mask.shape for mask in m.masks)) for m in saved}) > 1:
            raise InputError(f"The measurements of {', '.join(ids)} are of different shapes.")
        masks = [torch.stack(each) for each in zip(*(m.masks for m in saved), strict=True)]
        operator = self._fixed
        if operator is None or masks:
            operator = self._operator.restore(self._shape, self.origin.seed, iter(masks))
            self._fixed = operator
        measurements = torch.stack([m.values for m in saved])
        if tuple(measurements.shape[1:]) != operator.measurement_shape:
            raise InputError(
                f"The measurements in {self._files[ids[0]]} have shape {tuple(measurements.shape[1:])}; "
                f"their operator measures {operator.measurement_shape}."
            )
        return Batch(ids, operator.hide(measurements), operator)


def _same(path: Path, what: str, made: Spec, configured: Spec) -> None:
    if made != configured:
        raise ConfigurationError(
            f"{path} was measured with {what} {_plain(made)}; this run is configured with "
            f"{_plain(configured)}.",
            hint="Leave task, operator and noise out: they come from the file.",
        )


def _plain(spec: Spec) -> str:
    keys = spec.model_dump(exclude_none=True)
    return ", ".join([str(keys.pop("name")), *(f"{key}={value}" for key, value in keys.items())])


def _size(image: LoadedImage) -> tuple[int, int]:
    return image.rgb.shape[-1], image.rgb.shape[-2]


def check_size(
    path: object,
    size: tuple[int, int],
    image_shape: tuple[int, ...],
    who: str = "the generator makes",
    hint: str = "",
) -> None:
    """Raise :class:`InputError` unless an image has the width and height that are needed."""
    height, width = image_shape[1:]
    if size != (width, height):
        raise InputError(
            f"{path} is {size[0]} pixels wide and {size[1]} high; {who} images of {width} x {height}.",
            hint=hint
            or f"Crop the face and resize it to {width} x {height} first, aligned as the "
            "generator's training images are.",
        )


def check_generated(
    path: object, size: tuple[int, int], generator: SplitGenerator, hint: str = ""
) -> None:
    """Find out whether an image is one that a generator could have made.

    Args:
        path: its file, or what it is called.
        size: its width and height.
        generator: the generator.
        hint: what else it may be.

    Raises:
        InputError: it has another size; the hint says with which ``generator.size`` it could be used.
    """
    hints = [_other_size(generator, size), hint]
    check_size(path, size, generator.image_shape, hint=" ".join(filter(None, hints)))


def _other_size(generator: SplitGenerator, size: tuple[int, int]) -> str:
    """Return the hint for images of a width and height that the generator can make, if it can."""
    fits = size_of(generator, size)
    return f"generator.size={fits} makes images of this size." if fits is not None else ""
