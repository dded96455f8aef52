"""The contract of denoisers."""

from __future__ import annotations

import abc

from torch import Tensor


class Denoiser(abc.ABC):
    """Takes Gaussian noise of known strength off pictures: what a plug-and-play method asks of a prior."""

    @abc.abstractmethod
    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Denoise pictures, each by itself.

        Args:
            images: ``(B, 3, H, W)``, about [-1, 1].
            sigma: standard deviation of the noise of each, in the same units, ``(B,)``.
        """
