"""Arrays and settings out of strangers' files: nothing is unpickled, nothing is read that is larger than it may be."""

from __future__ import annotations

import json
import math
import zipfile
from typing import Any

import numpy as np

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Others can be made to ask for gigabytes by a few bytes.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_DEEP = 16
MOST_WHOLE = 1 << 63
MOST_TEXT = 1 << 18


def read_array(archive: zipfile.ZipFile, name: str, most: int) -> np.ndarray[Any, Any]:
    """Read an array of an ``.npz`` file.

    Args:
        archive: the opened file.
        name: the array's name.
        most: how many bytes it may have.

    Raises:
        KeyError: there is none of this name.
        Exception: it is damaged, larger, or holds Python objects.
    """
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in COMPRESSIONS:
        raise ValueError(f"{name} is compressed in an unusual way")
    with archive.open(member) as file:
        read_header = HEADERS.get(np.lib.format.read_magic(file))
        if read_header is None:
            raise ValueError(f"{name} is of an unknown version")
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or dtype.itemsize == 0:
            raise ValueError(f"{name} holds {dtype} and not numbers or text")
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= size <= most:
            raise ValueError(f"{name} would have {size} bytes, and {most} are read at most")
        data = bytearray(file.read(size))
    if len(data) != size or min(shape, default=0) < 0:
        raise ValueError(f"{name} is not of the shape {shape} that it says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_text(archive: zipfile.ZipFile, name: str) -> str:
    """Read an array that is one text, which can be printed and written down.

    Raises:
        KeyError: there is none of this name.
        Exception: it is damaged or no such text.
    """
    array = read_array(archive, name, MOST_TEXT)
    if array.dtype.kind != "U" or array.ndim:
        raise ValueError(f"{name} is no text")
    text = str(array)
    text.encode()
    return text


def read_settings(text: str) -> dict[str, Any]:
    """Read a dictionary of settings from JSON: not deep, and with finite numbers.

    Raises:
        ValueError: it is something else.
    """
    depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if depth > MOST_DEEP:
            raise ValueError(f"settings are more than {MOST_DEEP} levels deep")
    settings = json.loads(text, parse_int=_whole)
    if not isinstance(settings, dict):
        raise ValueError("settings are no dictionary")
    # Neither what is infinite nor half a character can be written down again.
    json.dumps(settings, allow_nan=False, ensure_ascii=False).encode()
    return settings


def _whole(digits: str) -> int:
    number = int(digits)
    if abs(number) >= MOST_WHOLE:
        raise ValueError(f"{digits[:20]}... is too large")
    return number
