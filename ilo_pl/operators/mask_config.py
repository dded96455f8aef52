"""Masks from configurations: where the missing pixels come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from PIL import ImageColor
from torch import Tensor

from ilo_pl.errors import ConfigurationError, InputError
from ilo_pl.io.find import file_for, find_images
from ilo_pl.io.images import LoadedImage, load_image, to_bytes
from ilo_pl.operators import ForwardOperator, Mask
from ilo_pl.operators.makers import ImageShape, OperatorConfig, OperatorMaker
from ilo_pl.spec import Number, PathText, Whole


@final
class MaskSpec(OperatorConfig):
    """Which pixels are observed; exactly one source.

    Args:
        fraction: share of the pixels observed, drawn by seed and image id.
        file: mask image for all images, or a folder of one for each, by name: white is observed, black
            or transparent is missing.
        box: ``[left, top, right, bottom]``, missing pixels.
        alpha: transparent pixels are missing.
        colour: pixels of exactly this colour are missing, for example ``'#00ff00'``.
    """

    task: ClassVar[str] = "inpainting"
    name: Literal["mask"]
    fraction: Number | None = None
    file: PathText | None = None
    box: tuple[Whole, Whole, Whole, Whole] | None = None
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

    def maker(self, image_shape: ImageShape, seed: int) -> OperatorMaker:
        """Return the maker of this operator."""
        return MaskMaker(self, image_shape, seed)

    def restore(
        self, image_shape: ImageShape, seed: int, masks: Iterator[Tensor]
    ) -> ForwardOperator:
        """Return the operator of the next mask that was saved."""
        mask = next(masks, None)
        if mask is None or mask.shape[2:] != image_shape[1:]:
            raise InputError(
                "The measurements hold no mask of "
                f"{image_shape[2]} x {image_shape[1]} pixels, which their operator needs."
            )
        return Mask(mask, image_shape[0])


@final
class MaskMaker(OperatorMaker):
    """Makes the mask of each image from the one source that the configuration names.

    Args:
        config: where the missing pixels come from.
        image_shape: shape of the images.
        seed: seed of random masks.

    Raises:
        ConfigurationError: none or several sources are named, or one of them is ill-formed.
        InputError: the mask file cannot be used.
    """

    def __init__(self, config: MaskSpec, image_shape: ImageShape, seed: int) -> None:
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

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """The image's shape."""
        return self._shape

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
            if bool(mask.all()):
                raise self._hides_nothing(image_id)
        return Mask(torch.stack(masks)[:, None], self._shape[0])

    def _mask_of(self, image_id: str, image: LoadedImage) -> Tensor:
        """Return the observed pixels of one image, bool ``(H, W)``."""
        if self._source == "file":
            return self._from_file(image_id).bright
        size = tuple(image.rgb.shape[1:])
        if size != self._shape[1:]:
            raise InputError(
                f"{image_id!r} is {size[1]} pixels wide and {size[0]} high; the mask is for images of "
                f"{self._shape[2]} x {self._shape[1]}."
            )
        if self._source == "colour":
            return self._from_colour(image_id, image)
        if image.alpha is None:
            raise InputError(
                f"{image_id!r} has no alpha channel to take the missing pixels from.",
                choices=SOURCES,
                hint="Name one source, for example operator.file=mask.png.",
            )
        return image.alpha >= 0.5

    def _from_colour(self, image_id: str, image: LoadedImage) -> Tensor:
        pixels = to_bytes(image.rgb)
        missing = (pixels == self._colour[:, None, None]).all(0)
        if not bool(missing.any()):
            distance = (pixels.float() - self._colour[:, None, None]).square().sum(0)
            row, column = divmod(int(distance.argmin()), distance.shape[1])
            red, green, blue = pixels[:, row, column].tolist()
            raise InputError(
                f"No pixel of {image_id!r} has the colour {self._config.colour}, so that nothing is "
                f"missing; the nearest colour in it is '#{red:02x}{green:02x}{blue:02x}' (column "
                f"{column}, row {row}).",
                hint="Colours must match exactly; formats such as JPEG change them.",
            )
        return ~missing

    def _hides_nothing(self, image_id: str) -> InputError:
        """Return the error for a mask of which every pixel is observed, which is never meant."""
        if self._source != "file":
            return InputError(
                f"No pixel of {image_id!r} is transparent, so that nothing is missing.",
                choices=SOURCES,
                hint="Make transparent what is missing, or name another source.",
            )
        darkest = int(to_bytes(self._from_file(image_id).rgb.mean(0)).min())
        return InputError(
            f"The mask of {image_id!r} in {self._config.file} hides nothing: its darkest pixel is grey "
            f"level {darkest} of 255, and what is above 127 is observed.",
            hint="Paint what is missing black, or make it transparent. operator.fraction=1 observes all.",
        )

    def _from_file(self, image_id: str) -> LoadedImage:
        path = file_for(image_id, Path(str(self._config.file)), self._files)
        if path is None:
            raise InputError(
                f"There is no mask for {image_id!r} in {self._config.file}.",
                hint="A folder of masks holds one file for each image, with the image's name; to use one "
                "mask for all images, name its file.",
            )
        mask = load_image(path)
        if tuple(mask.rgb.shape[1:]) != self._shape[1:]:
            raise InputError(
                f"The mask {path} is {mask.rgb.shape[2]} pixels wide and {mask.rgb.shape[1]} high; the "
                f"images are {self._shape[2]} x {self._shape[1]}.",
                hint="A mask has the size of its image: white is observed, black is missing.",
            )
        return mask


SOURCES = (
    "operator.fraction",
    "operator.file",
    "operator.box",
    "operator.alpha=true",
    "operator.colour",
)


def _parse_colour(text: str) -> Tensor:
    try:
        return torch.tensor(ImageColor.getrgb(text)[:3])
    except ValueError as error:
        raise ConfigurationError(
            f"operator.colour = {text!r} is not a colour.", hint="For example '#00ff00' or lime."
        ) from error
