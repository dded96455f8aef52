"""Grain of what is around a hole, continued into it: what a generator fills in is smoother than a photograph."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Standard deviation of the finest filter, in pixels; each next one is an octave coarser, up to this share of the side.
FINEST = 0.7
COARSEST = 1.4 / 256
# How far around a hole grain is looked for, as a share of the image's longer side.
AROUND = 1 / 16
# The share of the surroundings, the smoothest first, whose grain is taken: edges and wrinkles are no grain.
SMOOTHEST = 0.4
# Over how many pixels (standard deviation) smoothness is averaged.
LOCAL = 2.0
# A filter of standard deviation s sees no farther than so many s.
SIGHT = 3.5


@torch.no_grad()
def grained(mask: Tensor, image: Tensor, draw: Tensor) -> Tensor:
    """Return an image whose holes have the grain of their surroundings; what is measured stays as it is.

    In octave bands of Gaussians, noise is added with the covariance of the colours that the smoothest part of the
    surroundings has more than that of the hole has. An image whose surroundings are nowhere measured without a gap (random
    pixels) stays as it is.

    Args:
        mask: ``(1, 1, H, W)``, 1 where a pixel is measured.
        image: ``(1, C, H, W)`` in [-1, 1], measured pixels and filled holes.
        draw: standard normal numbers like ``image``.
    """
    side = max(image.shape[-2:])
    count = 1 + max(0, math.floor(math.log2(COARSEST * side / FINEST) + 1e-6))
    widths = [FINEST * 2**octave for octave in range(count)]
    hole = 1 - mask
    apart = math.ceil(SIGHT * widths[-1])
    around = (_grown(hole, round(AROUND * side)) - _grown(hole, apart)) > 0
    inside = hole > 0
    if not bool(around.any()) or not bool(inside.any()):
        return image
    added = torch.zeros_like(image)
    for band, noise in zip(_bands(image, widths), _bands(draw, widths), strict=True):
        energy = _energy(band)
        missing = _covariance(band, energy, around) - _covariance(band, energy, inside)
        values, vectors = torch.linalg.eigh(missing)
        colours = vectors * values.clamp(min=0).sqrt()
        # Measured as the photograph's, so that taking the smoothest part weakens neither.
        scale = _covariance(noise, _energy(noise), around).diagonal().mean().sqrt()
        added = added + torch.einsum("ij,bjhw->bihw", colours, noise / scale)
    edge = hole * _blurred(hole, FINEST)
    return torch.where(inside, (image + edge * added).clamp(-1, 1), image)


def _energy(band: Tensor) -> Tensor:
    """Return how far from smooth a band is at each pixel, ``(1, 1, H, W)``."""
    return _blurred(band.square().sum(1, keepdim=True), LOCAL)


def _covariance(band: Tensor, energy: Tensor, region: Tensor) -> Tensor:
    """Return the covariance of the channels ``(C, C)`` over the smoothest part of a region."""
    least = torch.quantile(energy[region], SMOOTHEST)
    values = band[:, :, (region & (energy <= least))[0, 0]][0]
    return values @ values.T / values.shape[1]


def _bands(image: Tensor, widths: list[float]) -> list[Tensor]:
    """Return what each filter takes away from what the one before left."""
    bands = []
    for width in widths:
        blurred = _blurred(image, width)
        bands.append(image - blurred)
        image = blurred
    return bands


def _blurred(image: Tensor, width: float) -> Tensor:
    """Return an image behind a Gaussian of a standard deviation in pixels; borders are mirrored."""
    reach = min(math.ceil(SIGHT * width), min(image.shape[-2:]) - 1)
    at = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    taps = torch.exp(-(at**2) / (2 * width**2))
    taps = (taps / taps.sum()).expand(image.shape[1], 1, -1)
    rows = F.pad(image, (0, 0, reach, reach), mode="reflect")
    rows = F.conv2d(rows, taps[..., None], groups=len(taps))
    return F.conv2d(
        F.pad(rows, (reach, reach, 0, 0), mode="reflect"), taps[:, :, None], groups=len(taps)
    )


def _grown(region: Tensor, pixels: int) -> Tensor:
    """Return a region with everything that is so many pixels from it, by rows and columns."""
    rows = F.max_pool2d(region, (2 * pixels + 1, 1), 1, (pixels, 0))
    return F.max_pool2d(rows, (1, 2 * pixels + 1), 1, (0, pixels))
