"""Images on disk -> measurements, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.io import LoadedImage, load_image
from ilo_pl.measuring import OperatorMaker
from ilo_pl.noise import NoiseModel
from ilo_pl.operators import ForwardOperator
from ilo_pl.task import Batch, MeasurementSource, check_finite


class ImageFolder(MeasurementSource):
    """Images that are measured when they are needed, or that are the measurements themselves.

    Args:
        files: image files by id.
        maker: makes the operator of some images.
        image_shape: shape ``(3, H, W)`` that the generator makes.
        seed: seed of the noise.
        simulate: measure the images; otherwise they are what was measured.
        noise: what is added to simulated measurements; given ones have theirs already.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        maker: OperatorMaker,
        image_shape: tuple[int, int, int],
        seed: int,
        *,
        simulate: bool = True,
        noise: NoiseModel,
    ) -> None:
        self.ids = tuple(files)
        self._files = dict(files)
        self._shape = image_shape
        self._maker = maker
        self._seed = seed
        self._simulate = simulate
        self._noise = noise

    def check(self) -> None:
        """Read every image and mask once.

        Raises:
            InputError: one of them cannot be used.
        """
        for index in range(len(self.ids)):
            self.load([index])

    def load(self, indices: Sequence[int]) -> Batch:
        """Read and measure some images."""
        ids = tuple(self.ids[i] for i in indices)
        images = [load_image(self._files[image_id]) for image_id in ids]
        operator = self._maker.make(ids, images)
        if self._simulate:
            measurements = self._measure(ids, images, operator)
        else:
            measurements = self._given(ids, images, operator)
        for image_id, values in zip(ids, measurements, strict=True):
            check_finite(image_id, values)
        return Batch(ids, measurements, operator)

    def _measure(
        self, ids: Sequence[str], images: Sequence[LoadedImage], operator: ForwardOperator
    ) -> Tensor:
        for image_id, image in zip(ids, images, strict=True):
            check_size(self._files[image_id], image.rgb, self._shape)
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
            check_size(
                self._files[image_id], image.rgb, (3, shape[1], shape[2]), "the operator measures"
            )
        given = torch.stack([image.rgb for image in images])
        given = given if shape[0] == 3 else given.mean(1, keepdim=True)
        # Only what the operator can measure counts: a masked picture is zero where the mask is.
        return operator.hide(given)


def check_size(
    path: Path, image: Tensor, image_shape: tuple[int, int, int], who: str = "the generator makes"
) -> None:
    """Raise :class:`InputError` unless an image has the height and width that are needed."""
    height, width = image_shape[1:]
    if tuple(image.shape[-2:]) != (height, width):
        raise InputError(
            f"{path} is {image.shape[-1]} pixels wide and {image.shape[-2]} high; {who} images of "
            f"{width} x {height}.",
            hint=f"Crop the face and resize it to {width} x {height} first, aligned as the "
            "generator's training images are.",
        )
