"""Colour profiles (ICC.1:2022): pictures to sRGB, and sRGB back to what a photo is in, by Little CMS."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

# What a profile describes, by its own signature, and the mode of Pillow that its transform takes.
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# Profiles of sRGB differ in rounding; no picture is changed by as little.
SAME = 2
# How cameras name it (DCF 2.0), and what the gAMA chunk of PNG holds for sRGB.
ADOBE_RGB = "R03"
SRGB_GAMMA = 1 / 2.2
HIGH_PRECISION = ImageCms.Flags.HIGHRESPRECALC


class Profile(NamedTuple):
    """A colour profile that can be used.

    Args:
        raw: the profile as it stands in a file.
        mode: mode of the pictures that it describes: ``RGB``, ``L`` or ``CMYK``.
        into: its transform to sRGB; ``None`` where it is sRGB.
    """

    raw: bytes
    mode: str
    into: ImageCms.ImageCmsTransform | None


def profile_of(image: Image.Image) -> tuple[Profile | None, str]:
    """Return a picture's profile, and why it cannot be used, if so.

    Without one that can be used, a picture's colours are taken for sRGB.
    """
    raw = image.info.get("icc_profile")
    if not raw:
        return None, _only_named(image)
    profile = _read(raw)
    if profile is None:
        return None, "is damaged"
    return (profile, "") if _describes(profile, image.mode) else (None, "is for other pictures")


def _only_named(image: Image.Image) -> str:
    """Return what a picture without a profile says of other colours than those of sRGB, if it does."""
    try:
        exif = Image.Image.getexif(image)
        interoperability = exif.get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # damaged EXIF raises nearly anything, and says nothing of colours
        interoperability = None
    if interoperability == ADOBE_RGB:
        return "is Adobe RGB by its EXIF data and not embedded"
    gamma = image.info.get("gamma")
    if gamma and "srgb" not in image.info and abs(gamma - SRGB_GAMMA) > 0.01:
        return f"is a gamma of {gamma:g} and not embedded"
    return ""


def _describes(profile: Profile, mode: str) -> bool:
    """Return whether a profile is for pictures of a mode: that of greys says nothing of colours."""
    if profile.mode == "RGB":
        return mode != "CMYK"
    return mode == "CMYK" if profile.mode == "CMYK" else not mode.startswith(("RGB", "P", "CMYK"))


def to_srgb(image: Image.Image, profile: Profile | None) -> Image.Image:
    """Return a picture without transparency in sRGB, as mode ``RGB``.

    Args:
        image: the picture.
        profile: from :func:`profile_of`.
    """
    if profile is None or profile.into is None:
        return image.convert("RGB")
    return profile.into.apply(image.convert(profile.mode))


def from_srgb(image: Image.Image, profile: Profile | None) -> Image.Image:
    """Return a picture of mode ``RGB`` in the colours of an RGB profile, the nearest that it has."""
    if profile is None or profile.into is None:
        return image
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile.raw))
    return _transform(_srgb(), target, "RGB").apply(image)


def grey_curve(profile: Profile | None) -> npt.NDArray[np.float64] | None:
    """Return what 256 even levels of a grey profile are in sRGB, in [-1, 1]; ``None``: the same."""
    if profile is None or profile.mode != "L" or profile.into is None:
        return None
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return np.array(profile.into.apply(ramp))[0, :, 1] / 127.5 - 1


@lru_cache(maxsize=16)
def _read(raw: bytes) -> Profile | None:
    """Return a profile from its bytes, ``None`` where it is damaged or of other colours."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        mode = MODES.get(source.profile.xcolor_space.strip())
        if mode is None:
            return None
        into = _transform(source, _srgb(), mode)
        return Profile(raw, mode, None if _is_srgb(into, mode) else into)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _transform(
    source: ImageCms.ImageCmsProfile, target: ImageCms.ImageCmsProfile, mode: str
) -> ImageCms.ImageCmsTransform:
    """Return the transform from pictures of a mode to those of ``RGB``."""
    intent = ImageCms.Intent.PERCEPTUAL
    return ImageCms.buildTransform(source, target, mode, "RGB", intent, HIGH_PRECISION)


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_srgb(into: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform leaves colours as they are: 4,913 of RGB, or all greys."""
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    if mode == "L":
        probe = np.arange(256, dtype=np.uint8)[None]
    else:
        probe = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    found = np.array(into.apply(Image.fromarray(probe))).astype(int)
    expected = probe if mode == "RGB" else probe[..., None]
    return bool(np.abs(found - expected).max() <= SAME)
