"""Photos as people have them: every format upright, greys of every depth, and what cannot be read is named."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features

from ilo_pl.errors import InputError
from ilo_pl.io.find import find_images
from ilo_pl.io.images import image_size, load_image, to_bytes
from tests.prepare.conftest import Prepare, prepare

__all__ = ["prepare"]  # a fixture
ORIENTATION = 274


def quarters() -> np.ndarray:
    """A picture of 48 x 32 pixels whose four quarters differ."""
    colours = np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [250, 250, 250]]], np.uint8)
    return colours.repeat(16, 0).repeat(24, 1)


# What EXIF 2.3 says of the first row and column that are stored, as NumPy does it.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


def save(array: np.ndarray, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if path.suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
        # From bytes the package writes the box that turns the picture, as iPhones do.
        Image.fromarray(array).save(path, exif=exif.tobytes(), quality=100)
        return
    Image.fromarray(array).save(path, exif=exif, quality=100)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "heic"])
def test_every_format_is_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / f"x.{suffix}"
    save(quarters(), path, orientation)
    expected = TURNS[orientation](quarters()).astype(int)
    found = to_bytes(load_image(path).rgb).permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 8
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def test_a_png_may_say_behind_its_pixels_how_it_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(quarters()).save(path)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    raw = path.read_bytes()
    path.write_bytes(raw[:-12] + chunk + raw[-12:])
    assert image_size(path) == (32, 48)
    assert load_image(path).rgb.shape == (3, 48, 32)


@pytest.mark.parametrize(
    "suffix", ["gif", "jp2", "j2k", "jfif", "jpe", "avif", "heic", "bmp", "ppm"]
)
def test_formats_by_their_names(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / f"x.{suffix}"
    if suffix == "heic":
        save(quarters(), path, 1)
    else:
        kind = {"jfif": "JPEG", "jpe": "JPEG", "j2k": "JPEG2000"}.get(suffix)
        Image.fromarray(quarters()).save(path, kind)
    assert find_images(tmp_path) == {"x": path}
    found = to_bytes(load_image(path).rgb).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - quarters()).mean() < 8


def test_what_cannot_be_read_is_named_with_the_way_out(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(quarters()).save(folder / "good.png")
    Image.fromarray(quarters()).save(folder / "raw.dng", "TIFF")  # DNG is TIFF, with a preview
    for name in ("canon.CR2", "layers.psd", "new.jxl", "burst.heics", "old.ico"):
        (folder / name).write_bytes(b"x" * 100)
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    status, _, error = prepare(
        "random", "fraction=0.5", f"input={folder}", f"output={tmp_path}/out"
    )
    assert status == 3
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]
    assert error.count("not done") == 7
    for words in ("raw.dng is a raw photo", "canon.CR2 is a raw", "PSD", "JXL", 'ilo_pl[heif]"'):
        assert words in error
    assert "Export it as JPEG" in error


def test_a_raw_photo_gives_way_to_its_picture(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.JPG")
    (tmp_path / "a.NEF").write_bytes(b"raw")
    with pytest.warns(UserWarning, match=r"a\.NEF is left out"):
        assert find_images(tmp_path) == {"a": tmp_path / "a.JPG"}


def tiff(path: Path, array: np.ndarray, **tags: int) -> Path:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[{"most": 281, "photometric": 262}[name]] = value
    Image.fromarray(array).save(path, tiffinfo=directory)
    return path


def test_twelve_bits_are_not_black(tmp_path: Path) -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    expected = ramp / 4095 * 255
    path = tiff(tmp_path / "said.tif", ramp, most=4095)
    found = (load_image(path).rgb[0].double().numpy() + 1) * 127.5
    assert np.abs(found - expected).max() < 1e-3
    # The same without a word of its scale is refused; of 12 bits a sample it is read.
    with pytest.raises(InputError, match=r"0 to 4095 of 65535, so that it would be nearly black"):
        load_image(tiff(tmp_path / "unsaid.tif", ramp))
    bits = "".join(f"{v:012b}" for v in ramp.ravel())
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    entries = [(256, 64), (257, 64), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64)]
    entries.append((279, len(packed)))
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    raw = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    (tmp_path / "12.tif").write_bytes(raw + struct.pack("<H", len(entries)) + table + bytes(4))
    found = (load_image(tmp_path / "12.tif").rgb[1].double().numpy() + 1) * 127.5
    assert np.abs(found - expected).max() < 1e-3


def png16(path: Path, values: np.ndarray, kind: int, chunk: bytes = b"") -> None:
    """Write a PNG of 16 bits by its specification; ``kind`` is its colour type."""

    def part(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    clear = part(b"tRNS", chunk) if chunk else b""
    body = part(b"IHDR", head) + clear + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_twelve_bits_of_colours_are_not_black(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 8 * 8 * 4).reshape(8, 8, 4).round()
    # Colour types of PNG: colours, greys with alpha, colours with alpha.
    for kind, channels in ((2, 3), (4, 2), (6, 4)):
        path = tmp_path / f"{kind}.png"
        png16(path, values[..., :channels], kind)
        with pytest.raises(InputError, match=r"nearly black.*multiply"):
            load_image(path)
        png16(path, values[..., :channels] * 16, kind)
        assert load_image(path).rgb.max() > 0.9
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6 8 8 65535\n" + values[..., :3].astype(">u2").tobytes())
    with pytest.raises(InputError, match="nearly black"):
        load_image(path)
    path.write_bytes(b"P6 8 8 4095\n" + values[..., :3].astype(">u2").tobytes())
    assert load_image(path).rgb.max() > 0.9


def test_a_transparent_grey_of_sixteen_bits(tmp_path: Path) -> None:
    values = np.full((8, 8), 50000)
    values[:3] = 40000
    png16(tmp_path / "x.png", values, 0, struct.pack(">H", 40000))
    alpha = load_image(tmp_path / "x.png").alpha
    assert alpha is not None
    assert np.array_equal(alpha.numpy(), values == 50000)


def test_sixteen_bits_and_their_inversion(tmp_path: Path) -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for path, expected in (
        (tiff(tmp_path / "a.tif", ramp), ramp),
        (tiff(tmp_path / "b.tif", ramp, photometric=0), 65535 - ramp),
    ):
        assert np.array_equal(to_bytes(load_image(path).rgb)[2].numpy(), expected // 257)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.array_equal(to_bytes(load_image(tmp_path / "a.png").rgb)[0].numpy(), ramp // 257)


def test_numbers_without_a_scale(tmp_path: Path) -> None:
    ramp = np.arange(256).reshape(16, 16)
    with pytest.raises(InputError, match="whole numbers from 0 to 255, and does not tell"):
        load_image(tiff(tmp_path / "int.tif", ramp.astype(np.int32)))
    for factor, shift, says in ((1, 0, "0 to 255"), (1 / 127.5, -1, "-1 to 1")):
        path = tiff(tmp_path / f"{shift}.tif", (ramp * factor + shift).astype(np.float32))
        with pytest.raises(
            InputError, match=f"floating-point numbers from {says}; those from 0 to 1"
        ):
            load_image(path)
    path = tiff(tmp_path / "unit.tif", (ramp / 255).astype(np.float32))
    assert np.array_equal(to_bytes(load_image(path).rgb)[1].numpy(), ramp)
    # Three channels of floating-point numbers, which Pillow does not know.
    raw = bytearray((tmp_path / "unit.tif").read_bytes())
    at = raw.index(struct.pack("<HHI", 339, 3, 1)) + 8
    raw[at : at + 2] = struct.pack("<H", 4)
    (tmp_path / "odd.tif").write_bytes(raw)
    with pytest.raises(InputError, match=r"is a TIFF with 1 channel\(s\) of 32-bit numbers"):
        load_image(tmp_path / "odd.tif")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_read_and_all_can_be_had(
    prepare: Prepare, tmp_path: Path, suffix: str
) -> None:
    frames = [Image.new("RGB", (24, 16), (90 * i, 255 - 90 * i, 40)) for i in range(3)]
    path = tmp_path / f"moves.{suffix}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=[20, 900, 40], lossless=True
    )
    with pytest.warns(UserWarning, match="has 3 frames, of which the first is used"):
        first = load_image(path)
    assert to_bytes(first.rgb)[:, 0, 0].tolist() == [0, 255, 40]
    status, _, error = prepare("frames", f"input={path}", f"output={tmp_path}/out")
    assert (status, error) == (0, "")
    written = [
        np.asarray(Image.open(p))[0, 0].tolist() for p in sorted((tmp_path / "out").iterdir())
    ]
    assert written == [[90 * i, 255 - 90 * i, 40] for i in range(3)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_lists_as_editors_write_them(tmp_path: Path, encoding: str) -> None:
    names = ["ä.png", "b.png"]
    (tmp_path / "list.txt").write_text("\n".join(names), encoding)
    assert find_images(tmp_path / "list.txt") == {n[:-4]: tmp_path / n for n in names}


def test_a_mark_between_joined_lists_is_no_part_of_a_name(tmp_path: Path) -> None:
    one, other = ("a.png\n".encode("utf-8-sig"), "b.png\n".encode("utf-8-sig"))
    (tmp_path / "list.txt").write_bytes(one + other)
    assert sorted(find_images(tmp_path / "list.txt")) == ["a", "b"]


def test_a_link_that_leads_nowhere_is_named(prepare: Prepare, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(quarters()).save(folder / "good.png")
    (folder / "lost.jpg").symlink_to("moved.jpg")
    keys = ["fraction=0.5", f"input={folder}", f"output={tmp_path}/out"]
    status, _, error = prepare("random", *keys)
    assert status == 3
    assert "not done: lost:" in error


def test_a_list_of_other_bytes_is_explained(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png", "utf-16-le")
    with pytest.raises(InputError, match="no text in UTF-8"):
        find_images(tmp_path / "list.txt")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names are text")
@pytest.mark.parametrize("listed", [False, True])
def test_a_name_that_is_not_utf_8_is_named(prepare: Prepare, tmp_path: Path, listed: bool) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(quarters()).save(folder / "good.png")
    odd = os.fsencode(folder) + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        Image.fromarray(quarters()).save(file, "PNG")
    given = folder
    if listed:
        given = tmp_path / "list.txt"
        given.write_bytes(b"in/good.png\nin/caf\xe9.png\n")
    status, _, error = prepare("random", "fraction=0.5", f"input={given}", f"output={tmp_path}/out")
    assert status == 3
    assert "not UTF-8" in error and "Rename it" in error
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_what_pillow_warns_of_is_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (11000, 9000)).save(path)  # Pillow takes it for an attack
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(path) == (11000, 9000)
