"""A classifier as a measurement: what it sees in an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.operators.base import ForwardOperator


@final
class Classifier(ForwardOperator):
    """The logits that a classifier gives an image: y = f(resize(x)), ``(B, K)``.

    With the loss ``cross_entropy`` and a one-hot y this maximises the probability of a class
    (section 4.3 of the ILO paper). A classifier that was not trained to be robust can be satisfied by
    patterns that no human sees.

    Args:
        model: maps normalised pictures ``(B, 3, size, size)`` to logits ``(B, K)``; frozen here.
        image_shape: shape of the images.
        size: side of the pictures that the model takes; the whole image is resized to it, averaging.
        mean, std: normalisation of each channel of pictures in [0, 1].
        categories: name of each class, if known.

    Raises:
        ConfigurationError: the model does not give one row of logits an image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        image_shape: tuple[int, int, int],
        *,
        size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        categories: Sequence[str] = (),
    ) -> None:
        super().__init__(image_shape)
        self.model = model.eval().requires_grad_(False)
        self.size = size
        self.categories = tuple(categories)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        with torch.no_grad():
            logits = self.measure(torch.zeros(1, *image_shape))
        if logits.ndim != 2 or len(logits) != 1:
            raise ConfigurationError(
                f"{type(model).__name__} gives {tuple(logits.shape)} for one image; a classifier gives "
                "logits (1, K)."
            )
        self.classes = logits.shape[1]
        if categories and len(categories) != self.classes:
            raise ConfigurationError(
                f"{len(categories)} names for {self.classes} classes of {type(model).__name__}."
            )

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (self.classes,)

    def measure(self, images: Tensor) -> Tensor:
        """Return the logits."""
        pictures = F.interpolate(
            images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )
        logits: Tensor = self.model(((pictures + 1) / 2 - self.mean) / self.std)
        return logits

    def target(self, name: str | int) -> Tensor:
        """Return the measurements that stand for a class: one-hot ``(K,)``.

        Args:
            name: a number from 0 or, where they are known, a category's name in any case.

        Raises:
            ConfigurationError: there is no such class.
        """
        return F.one_hot(torch.tensor(self.index(name)), self.classes).float()

    def index(self, name: str | int) -> int:
        """Return the number of a class; see :meth:`target`."""
        text = str(name)
        if text.isdecimal():
            if int(text) < self.classes:
                return int(text)
            raise ConfigurationError(
                f"There is no class {text}.",
                hint=f"Classes are numbered from 0 to {self.classes - 1}.",
            )
        names = [category.casefold() for category in self.categories]
        if text.casefold() not in names:
            if not names:
                raise ConfigurationError(
                    f"The classes have no names, so that {text!r} cannot be found.",
                    hint=f"Give a number from 0 to {self.classes - 1}.",
                )
            error = unknown("class", text, self.categories)
            # A thousand choices would hide the hint.
            raise ConfigurationError(error.what, hint=error.hint)
        return names.index(text.casefold())
