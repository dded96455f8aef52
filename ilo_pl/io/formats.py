"""Which files are pictures, and how they are opened: by Pillow, with an error for people."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ilo_pl.errors import InputError
from ilo_pl.io.encoded import PictureFile, open_bytes

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo", ".webp"),
    *(".bmp", ".dib"),
    *(".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".hif"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
RAW_SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf"),
    *(".rw2", ".rwl", ".pef", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mos", ".erf", ".kdc"),
    *(".dcr", ".mrw", ".raw"),
)
OTHER_SUFFIXES = (
    *(".psd", ".psb", ".xcf", ".kra", ".clip", ".afphoto", ".jxl", ".jxr", ".wdp", ".hdp"),
    *(".exr", ".hdr", ".tga", ".pcx", ".svg", ".svgz", ".eps", ".insp", ".ico", ".icns", ".cur"),
    *(".heics", ".heifs", ".avifs", ".jls", ".jxs", ".jph", ".sgi", ".dds", ".qoi", ".wmf", ".emf"),
    *(".fits", ".dcm", ".xbm", ".xpm", ".ora", ".procreate", ".gpr", ".braw", ".cap", ".mef"),
    ".k25",
)
# What looks like a picture in a folder and is none that can be read.
UNREADABLE = (*RAW_SUFFIXES, *OTHER_SUFFIXES)
# Pillow would hand other formats to other programs (EPS), or takes nearly any bytes for one (TGA).
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "JPEG2000", "PPM", "AVIF")
HEIF = "HEIF"
AVIF_BRANDS = (b"avif", b"avis")
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIFF_BITS, TIFF_SAMPLE_FORMAT = 258, 339
SAMPLE_FORMATS = {1: "whole numbers", 2: "signed whole numbers", 3: "floating-point numbers"}
# Part of the sentence: of a folder's files, tables and consoles show no hints.
EXPORT = "Export it as JPEG, or as PNG or TIFF of 8 or 16 bits."


@contextmanager
def opened(path: PictureFile) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises, also while its pixels are read, becomes an error for people.

    Raises:
        InputError: the file cannot be read as a picture.
    """
    check_name(path)
    _check_suffix(path)
    try:
        with quiet():
            formats = _formats(path)
            # Pillow closes what it has opened itself.
            given = path if isinstance(path, Path) else open_bytes(path)
            file = Image.open(given, formats=formats)
        with file:
            yield file
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except Exception as error:  # on damaged files Pillow and its decoders raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"The image {path} cannot be read: {reason}.") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Pillow warns of in terms of its own code; not around a yield, which would leak."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|pillow_heif")
        yield


def check_name(path: PictureFile) -> None:
    """Make sure that a path can be printed and written down.

    Raises:
        InputError: its name on the disk is not UTF-8.
    """
    shown = printable(str(path))
    if shown != str(path):
        raise InputError(f"The name of the file {shown} is not UTF-8. Rename it.")


def printable(name: str) -> str:
    """Return a name in which bytes that are not UTF-8 are escaped, so that it can be printed."""
    return name.encode("utf-8", "backslashreplace").decode()


def _check_suffix(path: PictureFile) -> None:
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        # Many are TIFF files inside, of which Pillow would read the small preview.
        raise InputError(f"{path} is a raw photo, which is not read. {EXPORT}")
    if suffix in OTHER_SUFFIXES:
        raise InputError(f"{path} is a {suffix[1:].upper()} file, which is not read. {EXPORT}")


def _formats(path: PictureFile) -> list[str]:
    """Return what a file may be; HEIC only needs another package, and is told by its first bytes.

    Raises:
        InputError: it is HEIC and the package is not installed.
    """
    with open_bytes(path) as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] not in AVIF_BRANDS:
        _register_heif(path)
        return [HEIF]
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _register_heif(path: PictureFile) -> None:
    # The package is an extra, and loads a decoder of video.
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError(
            f"{path} is a HEIC photo; to read it, pillow-heif is needed, which is not installed. "
            'Run pip install "ilo_pl[heif]", or export the photo as JPEG.'
        ) from error
    register_heif_opener()


def _unidentified(path: PictureFile) -> InputError:
    """Return why Pillow knows nothing of a file."""
    with open_bytes(path) as file:
        head = file.read(12)
    if head[:4] in TIFF_MARKS:
        return InputError(f"{path} is a TIFF {_tiff_layout(path)}, which is not read. {EXPORT}")
    if head[8:] in AVIF_BRANDS and not features.check("avif"):
        return InputError(
            f"{path} is an AVIF picture, which this version of Pillow does not read. "
            "Run pip install --upgrade pillow, or export the picture as JPEG."
        )
    return InputError(f"{path} is not an image, whatever its name says.", choices=SUFFIXES)


def _tiff_layout(path: PictureFile) -> str:
    """Say how the numbers of a TIFF file are stored, as far as its header tells."""
    try:
        with open_bytes(path) as file:
            tags = ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
        bits = tags.get(TIFF_BITS, (1,))
        kind = SAMPLE_FORMATS.get(tags.get(TIFF_SAMPLE_FORMAT, (1,))[0], "numbers")
        return f"with {len(bits)} channel(s) of {bits[0]}-bit {kind}"
    except Exception:  # a damaged header raises nearly anything
        return "of an unknown layout"
