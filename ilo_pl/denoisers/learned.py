"""The denoiser that the package ships, trained on pictures of the generator that it ships."""

from __future__ import annotations

from functools import lru_cache
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.denoisers.base import Denoiser
from ilo_pl.denoisers.network import DenoisingNetwork
from ilo_pl.weights.load import load_weights

NAME = "denoiser-ffhq"


@lru_cache(maxsize=2)
def _network(device: torch.device) -> DenoisingNetwork:
    network = DenoisingNetwork()
    network.load_state_dict(load_weights(NAME))
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last)


@final
class LearnedDenoiser(Denoiser):
    """A U-Net of 1.9 million parameters (:mod:`ilo_pl.denoisers.network`), for noise of up to 80 grey levels.

    It saw no photograph: only faces that the generator drew, whole and in crops (``scripts/train_denoiser.py``).
    Pictures of any size are continued by their last rows and columns to what its levels divide.
    """

    @torch.no_grad()
    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Denoise pictures; the network runs in the autocast type, if there is one."""
        network = _network(images.device)
        height, width = images.shape[-2:]
        rest = (-width % network.scale, -height % network.scale)
        padded = F.pad(images, (0, rest[0], 0, rest[1]), mode="replicate")
        padded = padded.contiguous(memory_format=torch.channels_last)
        found: Tensor = network(padded, sigma.view(-1, 1, 1, 1)).float()
        return found[..., :height, :width].contiguous()
