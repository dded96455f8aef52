"""Write the samples of an image: numbers, maps, and the most different ones side by side."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ilo_pl.inversion.posterior import Posterior
from ilo_pl.inversion.posterior_file import LEVEL, save_posterior
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import GREY_LEVELS

# So many samples side by side.
SHOWN = 6
# A standard deviation is white at a quarter of all grey levels: few pixels are less sure.
WHITE = 64.0


def write_posterior(folder: RunFolder, name: str, posterior: Posterior) -> list[Path]:
    """Write ``posterior/NAME.safetensors`` and pictures of it.

    ``NAME.std.png``: the standard deviation of each pixel, of the mean of its channels' variances; white is 64 grey levels.
    ``NAME.interval90.png``: how wide its credible interval is, white is 255 grey levels. ``NAME.different.png``: the
    samples that differ most.

    Args:
        folder: the run folder.
        name: the image's id.
        posterior: its samples.

    Returns:
        The files.
    """
    low, high = posterior.interval(LEVEL)
    pictures = {
        "std": _grey(posterior.std.square().mean(0).sqrt() * GREY_LEVELS * 255 / WHITE),
        "interval90": _grey((high - low).mean(0) * GREY_LEVELS),
        "different": torch.cat([*posterior.samples[posterior.different(SHOWN)]], -1),
    }
    named = {f"posterior/{name}.{kind}": picture for kind, picture in pictures.items()}
    folder.write_images(named)
    numbers = folder.write(
        f"posterior/{name}.safetensors", lambda path: save_posterior(path, posterior)
    )
    return [numbers, *(folder.path / f"{picture}.png" for picture in named)]


def _grey(levels: Tensor) -> Tensor:
    """Return a map ``(H, W)`` in grey levels as a picture."""
    return levels.round().clamp(0, 255).to(torch.uint8).expand(3, *levels.shape)
