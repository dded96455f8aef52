"""Colour profiles made by hand (ICC.1:2001-04), and what their colours are in sRGB by the formulas in float64."""

from __future__ import annotations

import struct

import numpy as np

Array = np.ndarray
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))


def decode(v: Array) -> Array:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def encode(v: Array) -> Array:
    v = np.clip(v, 0, 1)
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> Array:
    """Matrix from linear RGB with the white of D65 to XYZ."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return xyz * np.linalg.solve(xyz, white)


def p3_to_srgb(rgb: Array) -> Array:
    """Display P3 ``(..., 3)`` of 0 to 255 in sRGB, not rounded."""
    linear = decode(rgb / 255) @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(P3)).T
    return encode(linear) * 255


def srgb_to_p3(rgb: Array) -> Array:
    """Undo :func:`p3_to_srgb`; every colour of sRGB is in Display P3."""
    linear = decode(rgb / 255) @ (np.linalg.inv(to_xyz(P3)) @ to_xyz(SRGB)).T
    return encode(linear) * 255


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _curve(values: Array) -> bytes:
    levels = np.round(values * 65535).astype(">u2").tobytes()
    return b"curv" + struct.pack(">II", 0, len(values)) + levels


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50),
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">III", start + len(data), 0, 0x02400000) + kind + space + pcs
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + table + data


def rgb_profile(primaries: tuple[tuple[float, float], ...] = P3) -> bytes:
    """A profile of these primaries with the curve of sRGB."""
    white = to_xyz(primaries).sum(1)
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    matrix = np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ to_xyz(primaries)
    curve = _curve(decode(np.linspace(0, 1, 4096)))
    tags = {}
    for i, channel in enumerate((b"r", b"g", b"b")):
        tags[channel + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*matrix[:, i])
        tags[channel + b"TRC"] = curve
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(np.linspace(0, 1, 4096) ** gamma)})


def cmyk_profile(ink: float) -> bytes:
    """A profile in which full cyan, magenta and yellow are a grey of this lightness each, and black ink is black."""
    ramp = bytes(range(256))
    corners = b""
    for corner in np.ndindex(2, 2, 2, 2):
        lightness = 0 if corner[3] else 100 * (ink / 100) ** sum(corner[:3])
        corners += bytes([round(lightness * 2.55), 128, 128])
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += ramp * 4 + corners + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})
