"""A point that a stage keeps beside its variables."""

from __future__ import annotations

from torch import nn

from ilo_pl.generators.point import Point


class FrozenPoint(nn.Module):
    """A point held as buffers, so that Lightning moves and saves it."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.split = point.split
        # Buffer names must not hold dots.
        self._names = {name: name.replace(".", "__") for name, _ in point.named()}
        for name, value in point.named():
            self.register_buffer(self._names[name], value.detach().clone())

    def point(self) -> Point:
        """Return the point; it shares memory with the buffers."""
        return Point.from_named(self.split, {n: getattr(self, b) for n, b in self._names.items()})
