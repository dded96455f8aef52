"""Images on disk -> measurements, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import ImageColor
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.io import LoadedImage, find_images, load_image
from ilo_pl.operators.mask import Mask
from ilo_pl.specs import Spec
from ilo_pl.task import Batch, MeasurementSource, check_finite


class MaskSpec(Spec):
    """Which pixels are observed; exactly one source.

    Args:
        fraction: share of the pixels observed, drawn by seed and image id.
        file: mask image, or a folder of one for each image: white is observed, black is missing.
        box: ``[left, top, right, bottom]``, missing pixels.
        alpha: transparent pixels are missing.
        colour: pixels of exactly this colour are missing, for example ``'#00ff00'``.
    """

    name: Literal["mask"] = "mask"
    fraction: float | None = None
    file: str | None = None
    box: tuple[int, int, int, int] | None = None
    alpha: bool | None = None
    colour: str | None = None

    @property
    def source(self) -> str:
        """Name of the one source; ``alpha`` when none is named.

        Raises:
            ConfigurationError: several are named.
        """
        named = [n for n in ("fraction", "file", "box", "colour") if getattr(self, n) is not None]
        if self.alpha:
            named.append("alpha")
        if len(named) > 1:
            raise ConfigurationError(
                f"Missing pixels can come from one source only; got operator.{', operator.'.join(named)}.",
                hint=f"Switch the others off, for example operator.{named[0]}=null.",
            )
        return named[0] if named else "alpha"


class ImageFolder(MeasurementSource):
    """Images that are measured when they are needed.

    Args:
        files: image files by id.
        operator: how they are measured.
        image_shape: shape ``(3, H, W)`` that the generator makes.
        seed: seed of random operators.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        operator: MaskSpec,
        image_shape: tuple[int, int, int],
        seed: int,
    ) -> None:
        self.ids = tuple(files)
        self._files = dict(files)
        self._shape = image_shape
        self._maker = MaskMaker(operator, image_shape, seed)

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
        images = [self._read(image_id) for image_id in ids]
        mask = self._maker.make(ids, images)
        measurements = mask(torch.stack([image.rgb for image in images]))
        for image_id, values in zip(ids, measurements, strict=True):
            check_finite(image_id, values)
        return Batch(ids, measurements, mask)

    def _read(self, image_id: str) -> LoadedImage:
        path = self._files[image_id]
        image = load_image(path)
        check_size(path, image.rgb, self._shape)
        return image


def check_size(path: Path, image: Tensor, image_shape: tuple[int, int, int]) -> None:
    """Raise :class:`InputError` unless an image has the height and width the generator makes."""
    height, width = image_shape[1:]
    if tuple(image.shape[-2:]) != (height, width):
        raise InputError(
            f"{path} is {image.shape[-1]} pixels wide and {image.shape[-2]} high; the generator makes "
            f"images of {width} x {height}.",
            hint=f"Crop the face and resize it to {width} x {height} first, aligned as the "
            "generator's training images are.",
        )


class MaskMaker:
    """Makes the mask of each image from the one source that the configuration names.

    Args:
        config: where the missing pixels come from.
        image_shape: shape of the images.
        seed: seed of random masks.

    Raises:
        ConfigurationError: none or several sources are named, or one of them is ill-formed.
        InputError: the mask file cannot be used.
    """

    def __init__(self, config: MaskSpec, image_shape: tuple[int, int, int], seed: int) -> None:
        self._config = config
        self._shape = image_shape
        self._seed = seed
        self._source = config.source
        if self._source == "fraction" and config.fraction is not None:
            Mask.random(image_shape, config.fraction, seed, ["check"])
        elif self._source == "box" and config.box is not None:
            Mask.box(image_shape, config.box)
        elif self._source == "file":
            self._files = find_images(Path(str(config.file)))
        elif self._source == "colour":
            self._colour = _parse_colour(str(config.colour))

    def make(self, ids: Sequence[str], images: Sequence[LoadedImage]) -> Mask:
        """Return the mask operator of some images, one mask each."""
        config = self._config
        if config.fraction is not None:
            return Mask.random(self._shape, config.fraction, self._seed, ids)
        if config.box is not None:
            return Mask.box(self._shape, config.box)
        masks = [self._mask_of(i, image) for i, image in zip(ids, images, strict=True)]
        for image_id, mask in zip(ids, masks, strict=True):
            if not bool(mask.any()):
                raise InputError(
                    f"The mask of {image_id!r} observes no pixel at all.",
                    hint="In a mask file, white is observed and black is missing.",
                )
        return Mask(torch.stack(masks)[:, None])

    def _mask_of(self, image_id: str, image: LoadedImage) -> Tensor:
        """Return the observed pixels of one image, bool ``(H, W)``."""
        if self._source == "file":
            return self._from_file(image_id)
        if self._source == "colour":
            same = ((image.rgb + 1) * 127.5).round() == self._colour[:, None, None]
            return ~same.all(0)
        if image.alpha is None:
            raise InputError(
                f"{image_id!r} has no alpha channel to take the missing pixels from.",
                choices=SOURCES,
                hint="Name one source, for example operator.file=mask.png.",
            )
        return image.alpha >= 0.5

    def _from_file(self, image_id: str) -> Tensor:
        path = self._files.get(image_id)
        if path is None and len(self._files) == 1:
            path = next(iter(self._files.values()))
        if path is None:
            raise InputError(
                f"There is no mask for {image_id!r} in {self._config.file}.",
                hint="A folder of masks holds one file for each image, with the image's name.",
            )
        mask = load_image(path)
        if tuple(mask.rgb.shape[1:]) != self._shape[1:]:
            raise InputError(
                f"The mask {path} is {mask.rgb.shape[2]} pixels wide and {mask.rgb.shape[1]} high; the "
                f"images are {self._shape[2]} x {self._shape[1]}.",
                hint="A mask has the size of its image: white is observed, black is missing.",
            )
        return mask.rgb.mean(0) >= 0


SOURCES = (
    "operator.fraction",
    "operator.file",
    "operator.box",
    "operator.alpha=true",
    "operator.colour",
)


def _parse_colour(text: str) -> Tensor:
    try:
        return torch.tensor(ImageColor.getrgb(text)[:3]).float()
    except ValueError as error:
        raise ConfigurationError(
            f"operator.colour = {text!r} is not a colour.", hint="For example '#00ff00' or lime."
        ) from error
