"""The two networks that find faces: MediaPipe's full-range detector and its mesh of 468 points.

Both are rows of one block: a depthwise and a pointwise convolution beside a shortcut (BlazeFace, Bazarevsky et al.
2019, arXiv 1907.05047; face mesh, Kartynnik et al. 2019, arXiv 1907.06724). What those papers leave open, widths and
joins, is as in the published files; scripts/convert_mediapipe.py compares with them, output for output.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, final

from torch import Tensor, nn
from torch.nn import functional as F

# Widths of the detector's blocks at 1/2, 1/4, ... of the photo's size, each with its bottleneck.
DETECTOR = (
    ((32, 8), (32, 8)),
    ((48, 12), (48, 12), (64, 16)),
    ((96, 24), (128, 32), (128, 32)),
    ((144, 36), (192, 48), (256, 64)),
    ((384, 96), (384, 96), (384, 96), (384, 96)),
)
# Of its way back: width and bottleneck, and how many blocks, at 1/16, 1/8 and 1/4.
BACK = ((96, 48, 2), (64, 32, 2), (48, 24, 1))
# Widths of the mesh's blocks at 1/2, 1/4, ... of its square.
MESH = ((16, 16), (32, 32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))
POINTS = 468
# Of a detected face: where it is (x, y, width, height) and six points of it.
BOX, KEYPOINTS = 4, 6


class Detections(NamedTuple):
    """What the detector says of every cell of 4 x 4 pixels.

    Args:
        logits: ``(B, H / 4, W / 4)``, of a face there.
        values: ``(B, 16, H / 4, W / 4)``: x and y of its centre, its width and height, and x and y of six points,
            in pixels; those of places are measured from the cell's centre.
    """

    logits: Tensor
    values: Tensor


class _Conv(nn.Conv2d):
    """A convolution whose border is padded as TensorFlow's "same": the odd row and column at the end."""

    def __init__(self, here: int, there: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        before, odd = divmod(kernel - stride, 2)
        super().__init__(here, there, kernel, stride, padding=before, groups=groups)
        self.border = (0, odd, 0, odd)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, there, H / stride, W / stride)``; stride divides H and W."""
        return super().forward(F.pad(x, self.border) if any(self.border) else x)


class Block(nn.Module):
    """act(C(x) + shortcut(x)), C one or two pairs of a depthwise and a pointwise convolution.

    The shortcut is halved by its largest values and widened by zeros.

    Args:
        here: channels of the input.
        there: channels of the output.
        stride: 1, or 2 for half the size.
        middle: channels between two pairs; without it there is one.
        slopes: whether negative values keep a learned slope and are not set to 0.
    """

    def __init__(
        self, here: int, there: int, stride: int = 1, *, middle: int = 0, slopes: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        layers: list[nn.Module] = [_Conv(here, here, 3, stride, groups=here)]
        if middle:
            layers += [_Conv(here, middle), nn.ReLU(), _Conv(middle, middle, 3, groups=middle)]
        layers.append(_Conv(middle or here, there))
        self.layers = nn.Sequential(*layers)
        self.act = nn.PReLU(there) if slopes else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, there, H / stride, W / stride)``."""
        out: Tensor = self.layers(x)
        short = F.max_pool2d(x, self.stride) if self.stride > 1 else x
        # Behind the shortcut's channels only zeros would be added.
        out[:, : short.shape[1]] += short
        active: Tensor = self.act(out)
        return active


class _Back(nn.Module):
    """One step of the detector's way back: twice the size, joined with what was there on the way in."""

    def __init__(self, deep: int, there: int, width: int, middle: int, count: int) -> None:
        super().__init__()
        self.deep, self.lateral = _Conv(deep, width), _Conv(there, width)
        self.blocks = nn.Sequential(*(Block(width, width, middle=middle) for _ in range(count)))

    def forward(self, deep: Tensor, lateral: Tensor) -> Tensor:
        large = F.interpolate(F.relu(self.deep(deep)), scale_factor=2, mode="bilinear")
        out: Tensor = self.blocks(F.relu(self.lateral(lateral)) + large)
        return out


@final
class Detector(nn.Module):
    """Find faces in a picture, the largest about as high as 192 pixels."""

    # Height and width must be multiples of this.
    multiple = 32

    def __init__(self) -> None:
        super().__init__()
        here = DETECTOR[0][0][0]
        self.stem = nn.Sequential(_Conv(3, here, 3, 2), nn.ReLU())
        self.levels = nn.ModuleList()
        for depth, blocks in enumerate(DETECTOR):
            widths = [here, *(width for width, _ in blocks)]
            strides = [2 if depth else 1] + [1] * (len(blocks) - 1)
            pairs = zip(itertools.pairwise(widths), strides, blocks, strict=True)
            self.levels.append(
                nn.Sequential(*(Block(a, b, s, middle=middle) for (a, b), s, (_, middle) in pairs))
            )
            here = widths[-1]
        self.back = nn.ModuleList()
        for (width, middle, count), blocks in zip(BACK, DETECTOR[3:0:-1], strict=True):
            self.back.append(_Back(here, blocks[-1][0], width, middle, count))
            here = width
        self.logit = _Conv(here, 1)
        self.values = _Conv(here, BOX + 2 * KEYPOINTS)

    def forward(self, pictures: Tensor) -> Detections:
        """Look at pictures ``(B, 3, H, W)`` in [-1, 1]."""
        x = self.stem(pictures)
        seen = []
        for level in self.levels:
            x = level(x)
            seen.append(x)
        for back, lateral in zip(self.back, seen[3:0:-1], strict=True):
            x = back(x, lateral)
        return Detections(self.logit(x)[:, 0], self.values(x))


def _row(widths: Sequence[int], first_stride: int) -> list[Block]:
    """Return blocks with slopes, the first of which may halve the size."""
    strides = [first_stride] + [1] * (len(widths) - 2)
    pairs = zip(itertools.pairwise(widths), strides, strict=True)
    return [Block(a, b, s, slopes=True) for (a, b), s in pairs]


def _head(here: int, deep: int, count: int) -> nn.Sequential:
    """Return the way from 1/32 of the square to ``count`` numbers; ``deep`` blocks at 1/64."""
    layers = [*_row([here] * (deep + 1), 2), _Conv(here, 32), nn.PReLU(32), *_row([32, 32], 1)]
    return nn.Sequential(*layers, nn.Conv2d(32, count, 3), nn.Flatten())


@final
class Mesh(nn.Module):
    """Find 468 points of the face that fills most of a square, upright."""

    size = 192

    def __init__(self) -> None:
        super().__init__()
        here = MESH[0][0]
        layers: list[nn.Module] = [_Conv(3, here, 3, 2), nn.PReLU(here)]
        for depth, widths in enumerate(MESH):
            layers += _row([here, *widths], 2 if depth else 1)
            here = widths[-1]
        self.trunk = nn.Sequential(*layers)
        self.points = _head(here, 3, 3 * POINTS)
        self.logit = _head(here, 1, 1)

    def forward(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Look at squares ``(B, 3, 192, 192)`` in [-1, 1].

        Returns:
            Points ``(B, 468, 3)``, x, y and depth in pixels, and the logit of a face being there ``(B,)``.
        """
        features = self.trunk(squares)
        points: Tensor = self.points(features).view(-1, POINTS, 3)
        logits: Tensor = self.logit(features)[:, 0]
        return points, logits


@final
class FaceNetworks(nn.Module):
    """The detector and the mesh: the parts of one weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = Detector()
        self.mesh = Mesh()
