"""Colours are those of sRGB, whatever profile a file has, and go back into it."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ilo_pl.io.colour import from_srgb
from ilo_pl.io.images import load_image, load_photo, to_bytes
from ilo_pl.prepare.files import Record
from tests.io.icc import (
    SRGB,
    cmyk_profile,
    encode,
    grey_profile,
    p3_to_srgb,
    rgb_profile,
    srgb_to_p3,
)
from tests.prepare.conftest import Prepare, prepare

__all__ = ["prepare"]  # a fixture


def pixels(path: Path) -> np.ndarray:
    return to_bytes(load_image(path).rgb).permute(1, 2, 0).numpy()


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("alpha", [False, True])
def test_p3_is_converted(tmp_path: Path, colours: np.ndarray, suffix: str, alpha: bool) -> None:
    colours[0, 0] = 60, 140, 80
    image = Image.fromarray(colours)
    if alpha:
        image.putalpha(Image.fromarray(colours[:, :, 0] | 1))
    path = tmp_path / f"p3.{suffix}"
    image.save(path, icc_profile=rgb_profile(), lossless=True, exact=True)
    found = pixels(path)
    assert found[0, 0].tolist() == [0, 142, 73]
    assert np.abs(found - p3_to_srgb(colours.astype(float))).max() < 1.1
    if alpha:
        read = load_image(path).alpha
        assert read is not None
        assert np.array_equal((read * 255).round(), colours[:, :, 0] | 1)


def test_profiles_of_srgb_change_nothing(tmp_path: Path, colours: np.ndarray) -> None:
    littlecms = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (None, littlecms, rgb_profile(SRGB)):
        Image.fromarray(colours).save(tmp_path / "x.png", icc_profile=profile)
        assert np.array_equal(pixels(tmp_path / "x.png"), colours)


@pytest.mark.parametrize("deep", [False, True])
def test_greys_have_their_curve(tmp_path: Path, deep: bool) -> None:
    grey = np.arange(0, 256, dtype=np.uint16)[None].repeat(4, 0)
    stored = grey * 257 if deep else grey.astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "x.png", icc_profile=grey_profile(1.8))
    expected = encode((grey / 255) ** 1.8) * 255
    # lcms gives the 8 bits from which 16 are interpolated.
    assert np.abs(pixels(tmp_path / "x.png") - expected[..., None]).max() < 1.1


def test_ink_is_converted_where_its_profile_says_how(tmp_path: Path) -> None:
    inks = np.zeros((1, 3, 4), np.uint8)
    inks[0, 1, 0] = inks[0, 2, 3] = 255
    image = Image.frombytes("CMYK", (3, 1), inks.tobytes())
    image.save(tmp_path / "x.tif", icc_profile=cmyk_profile(50))
    # L* = 50 is a luminance of ((50 + 16) / 116)^3.
    grey = float(encode(np.array(((50 + 16) / 116) ** 3)) * 255)
    found = pixels(tmp_path / "x.tif")[0].astype(float)
    assert np.abs(found - np.array([255, grey, 0])[:, None]).max() < 2
    image.save(tmp_path / "plain.tif")
    assert pixels(tmp_path / "plain.tif")[0].tolist() == [[255] * 3, [0, 255, 255], [0] * 3]


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (b"no profile at all", "is damaged"),
        (rgb_profile()[:200], "is damaged"),
        (cmyk_profile(50), "for other pictures"),
        (grey_profile(1.8), "for other pictures"),
    ],
)
def test_a_profile_that_cannot_be_used_is_told(
    tmp_path: Path, colours: np.ndarray, profile: bytes, says: str
) -> None:
    Image.fromarray(colours).save(tmp_path / "x.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=rf"profile of .*x\.png .*{says}.* taken for sRGB"):
        found = pixels(tmp_path / "x.png")
    assert np.array_equal(found, colours)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(tmp_path / "x.png")  # told once


def test_back_into_the_profile_and_forth(tmp_path: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours).save(tmp_path / "x.png", icc_profile=rgb_profile())
    own, profile = load_photo(tmp_path / "x.png")
    assert profile is not None
    assert torch.equal(own.permute(1, 2, 0), torch.from_numpy(colours))
    wide = np.asarray(from_srgb(Image.fromarray(colours), profile)).astype(float)
    assert np.abs(wide - srgb_to_p3(colours.astype(float))).max() < 1.1


def test_pasted_faces_have_the_photos_colours(
    prepare: Prepare, tmp_path: Path, colours: np.ndarray
) -> None:
    raw = rgb_profile()
    Image.fromarray(colours).save(tmp_path / "photo.png", icc_profile=raw)
    (tmp_path / "aligned").mkdir()
    square = np.array([[9.5, 9.5], [9.5, 29.5], [29.5, 29.5], [29.5, 9.5]])
    record = Record("photo.png", (50, 40), square, 20)
    (tmp_path / "aligned" / "face.json").write_text(record.text())
    Image.new("RGB", (20, 20), (100, 150, 200)).save(tmp_path / "face.png")
    keys = (
        f"input={tmp_path}/face.png",
        f"aligned={tmp_path}/aligned",
        f"photos={tmp_path}/photo.png",
    )
    assert prepare("paste", *keys, "feather=0", f"output={tmp_path}/out")[0] == 0
    with Image.open(tmp_path / "out" / "photo.png") as written:
        assert written.info["icc_profile"] == raw
        stored = np.asarray(written)
    inside = np.zeros((40, 50), bool)
    inside[10:30, 10:30] = True
    assert np.array_equal(stored[~inside], colours[~inside])
    assert np.abs(p3_to_srgb(stored[inside].astype(float)) - [100, 150, 200]).max() < 1.5


def test_colours_that_are_named_and_not_embedded_are_told(tmp_path: Path) -> None:
    # TIFF 6.0: a directory with EXIF's, that with Interoperability's, that with its index.
    exif = b"Exif\0\0II*\0\x08\0\0\0"
    for tag, kind, count, value in (
        (0x8769, 4, 1, 26),
        (0xA005, 4, 1, 44),
        (1, 2, 4, int.from_bytes(b"R03\0", "little")),
    ):
        exif += struct.pack("<HHHIII", 1, tag, kind, count, value, 0)
    picture = Image.new("RGB", (8, 8), (60, 140, 80))
    picture.save(tmp_path / "named.jpg", exif=exif)
    with pytest.warns(UserWarning, match=r"Adobe RGB by its EXIF data.*taken for sRGB"):
        load_image(tmp_path / "named.jpg")
    for gamma, told in ((100000, 1), (45455, 0)):
        path = tmp_path / f"{gamma}.png"
        picture.save(path)
        raw = path.read_bytes()
        chunk = b"gAMA" + struct.pack(">I", gamma)
        chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(raw[:33] + chunk + raw[33:])
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            load_image(path)
        assert [w for w in seen if "gamma of 1 " in str(w.message)] == seen and len(seen) == told
