"""Generators by the name that configurations use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ilo_pl.errors import unknown
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.mobilestylegan import MobileStyleGAN
from ilo_pl.generators.tiny import TinyGenerator


def _stylegan2(weights: Path | None, seed: int) -> SplitGenerator:
    from ilo_pl.generators.stylegan2 import StyleGAN2

    return StyleGAN2.pretrained(weights)


GENERATORS: dict[str, Callable[[Path | None, int], SplitGenerator]] = {
    "mobilestylegan_ffhq": lambda weights, seed: MobileStyleGAN.pretrained(weights),
    "stylegan2": _stylegan2,
    "tiny": lambda weights, seed: TinyGenerator(seed).freeze(),
}


def make_generator(name: str, weights: Path | None = None, seed: int = 0) -> SplitGenerator:
    """Return a registered generator, frozen.

    Args:
        name: a key of :data:`GENERATORS`.
        weights: path of its weights; those in the package by default.
        seed: seed of generators with random weights.

    Raises:
        ConfigurationError: there is no such generator.
        WeightsError: the weights cannot be used.
    """
    if name not in GENERATORS:
        raise unknown("generator", name, GENERATORS)
    return GENERATORS[name](weights, seed)


__all__ = [
    "GENERATORS",
    "MobileStyleGAN",
    "Split",
    "SplitGenerator",
    "State",
    "TinyGenerator",
    "make_generator",
]
