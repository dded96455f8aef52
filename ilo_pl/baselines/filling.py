"""Missing pixels from the observed ones around them; observed pixels stay what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilo_pl.baselines.packages import imported
from ilo_pl.errors import InputError

# Observed pixels up to so many pixels from a missing one are triangulated: those that span its triangle, and
# those that the gradients at its corners are estimated from.
REACH = 3
# Width of the Gaussian in mean distances of observed pixels, and the weight that a pixel must have found
# before it is taken from that width; chosen on five photos of faces.
SPREAD = 0.5
LEAST_WEIGHT = 0.1
# The sparse system of so many unknowns in one region takes 2 GB and a minute.
MOST_UNKNOWNS = 60_000
Array = np.ndarray[Any, np.dtype[Any]]


def interpolation(picture: Tensor, mask: Tensor) -> Tensor:
    """Interpolate missing pixels by a C1 cubic on each triangle between observed ones (Clough and Tocher).

    That is :func:`scipy.interpolate.griddata` with ``cubic``, given those observed pixels only that are near
    missing ones. Outside the convex hull of the observed pixels the nearest one is taken.

    Args:
        picture: ``(C, H, W)`` in [-1, 1]; what it holds where pixels are missing does not count.
        mask: ``(H, W)``, true where a pixel is observed.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: scipy is not installed.
        InputError: the shapes do not fit, or no pixel is observed.
    """
    values, seen = _arrays(picture, mask)
    ndimage, interpolate = imported("scipy.ndimage"), imported("scipy.interpolate")
    missing = ~seen
    if not missing.any():
        return _picture(values)
    near = seen & ndimage.binary_dilation(missing, np.ones((3, 3)), iterations=REACH)
    known, wanted = np.argwhere(near), np.argwhere(missing)
    found = np.full((len(wanted), len(values)), np.nan)
    if np.linalg.matrix_rank(known - known[0]) == 2:  # else all of them are on one line
        try:
            found = interpolate.griddata(known, values[:, near].T, wanted, method="cubic")
        except imported("scipy.spatial").QhullError:
            pass  # too few of them: the nearest
    beyond = np.isnan(found).any(1)
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    rows, columns = nearest[:, missing][:, beyond]
    found[beyond] = values[:, rows, columns].T
    values[:, missing] = found.T
    return _picture(values)


def gaussian_filling(picture: Tensor, mask: Tensor) -> Tensor:
    """Fill missing pixels by normalised convolution with a Gaussian (Knutsson and Westin 1993).

    The masked picture and the mask are both blurred, and divided. The standard deviation is 0.5 / sqrt(share of
    pixels observed), in pixels; where the blurred mask is then below a tenth of that share, as in the middle
    of a hole, it is doubled until it is not.

    Args:
        picture: ``(C, H, W)`` in [-1, 1]; what it holds where pixels are missing does not count.
        mask: ``(H, W)``, true where a pixel is observed.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: scipy is not installed.
        InputError: the shapes do not fit, or no pixel is observed.
    """
    values, seen = _arrays(picture, mask)
    blur = imported("scipy.ndimage").gaussian_filter
    known, weights = values * seen, seen.astype(np.float32)
    share = float(seen.mean())
    sigma, left = SPREAD / share**0.5, ~seen
    while left.any():
        weight = blur(weights, sigma, mode="constant")
        here = left & (weight > LEAST_WEIGHT * share)
        for plane, given in zip(values, known, strict=True):
            plane[here] = blur(given, sigma, mode="constant")[here] / weight[here]
        left &= ~here
        sigma *= 2
    return _picture(values)


def biharmonic(picture: Tensor, mask: Tensor) -> Tensor:
    """Fill holes by the surface of least curvature (:func:`skimage.restoration.inpaint_biharmonic`).

    Args:
        picture: ``(C, H, W)`` in [-1, 1]; what it holds where pixels are missing does not count.
        mask: ``(H, W)``, true where a pixel is observed.

    Returns:
        ``(C, H, W)`` float32, clipped to [-1, 1].

    Raises:
        ConfigurationError: scikit-image is not installed.
        InputError: the shapes do not fit, no pixel is observed, or :func:`check_holes` refuses the mask.
    """
    values, seen = _arrays(picture, mask)
    inpaint = imported("skimage.restoration").inpaint_biharmonic
    check_holes(mask)
    # Holes one by one need less memory; where they are specks all over, one system is faster.
    _, count = imported("scipy.ndimage").label(~seen)
    filled = inpaint(
        (values * seen).transpose(1, 2, 0), ~seen, split_into_regions=count <= 100, channel_axis=-1
    )
    return _picture(np.asarray(filled).transpose(2, 0, 1))


def check_holes(mask: Tensor) -> None:
    """Refuse a mask whose holes :func:`biharmonic` would not fill in reasonable time.

    Args:
        mask: ``(H, W)``, true where a pixel is observed.

    Raises:
        ConfigurationError: scipy is not installed.
        InputError: too many missing pixels depend on each other.
    """
    ndimage = imported("scipy.ndimage")
    missing = ~mask.cpu().numpy().astype(bool)
    # What the stencil couples: missing pixels up to two apart.
    regions, count = ndimage.label(ndimage.binary_dilation(missing), np.ones((3, 3)))
    largest = int(np.bincount(regions[missing], minlength=1).max()) if count else 0
    if largest > MOST_UNKNOWNS:
        raise InputError(
            f"The method 'biharmonic' solves for all pixels of a hole at once; {largest} missing pixels hang "
            f"together here, and more than {MOST_UNKNOWNS} take minutes and gigabytes.",
            hint="Use method=interpolation or method=gaussian_filling, which take any mask.",
        )


def _arrays(picture: Tensor, mask: Tensor) -> tuple[Array, Array]:
    if picture.ndim != 3 or picture.shape[1:] != mask.shape:
        raise InputError(
            f"A picture (C, H, W) and a mask (H, W) of its size are needed; got {tuple(picture.shape)} and "
            f"{tuple(mask.shape)}."
        )
    seen = mask.cpu().numpy().astype(bool)
    if not seen.any():
        raise InputError("The mask observes no pixel at all.")
    return picture.detach().cpu().numpy().astype(np.float32), seen


def _picture(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).clamp(-1, 1)
