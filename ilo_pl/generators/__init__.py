"""Generators by the name that configurations use."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.mobilestylegan import MobileStyleGAN
from ilo_pl.generators.resized import Resized
from ilo_pl.generators.sequential import SequentialGenerator
from ilo_pl.generators.tiny import TinyGenerator

Maker = Callable[[Path | None, int], SplitGenerator]


def _stylegan2(weights: Path | None, class_index: int | None = None) -> SplitGenerator:
    from ilo_pl.generators.stylegan2.network import StyleGAN2

    return StyleGAN2.pretrained(weights, class_index=class_index)


def _biggan_deep(weights: Path | None, class_index: int | None = None) -> SplitGenerator:
    from ilo_pl.generators.biggan.network import BigGANDeep

    return BigGANDeep.pretrained(weights, class_index=class_index)


def _gan_faces(weights: Path | None, seed: int) -> SplitGenerator:
    from ilo_pl.generators.dcgan import load_dcgan

    return load_dcgan("gan_faces", weights)


def _omniart_eyes(weights: Path | None, class_index: int | None = None) -> SplitGenerator:
    from ilo_pl.generators.dcgan import load_dcgan

    return load_dcgan("omniart_eyes", weights, class_index)


def _tiny(weights: Path | None, seed: int) -> SplitGenerator:
    if weights is not None:
        raise ConfigurationError(
            f"The generator tiny has no weights file, and {weights} was given: its weights are random, by seed.",
            hint="Leave the weights out, or name the generator that they belong to.",
        )
    return TinyGenerator(seed).freeze()


GENERATORS: dict[str, Maker] = {
    "biggan_deep": lambda weights, seed: _biggan_deep(weights),
    "gan_faces": _gan_faces,
    "mobilestylegan_ffhq": lambda weights, seed: MobileStyleGAN.pretrained(weights),
    "omniart_eyes": lambda weights, seed: _omniart_eyes(weights),
    "stylegan2": lambda weights, seed: _stylegan2(weights),
    "tiny": _tiny,
}
# Those whose networks can have classes.
CONDITIONAL: dict[str, Callable[[Path | None, int | None], SplitGenerator]] = {
    "biggan_deep": _biggan_deep,
    "omniart_eyes": _omniart_eyes,
    "stylegan2": _stylegan2,
}


def make_generator(
    name: str,
    weights: Path | None = None,
    seed: int = 0,
    *,
    imports: bool = False,
    class_index: int | None = None,
) -> SplitGenerator:
    """Return a registered generator, frozen.

    Args:
        name: a key of :data:`GENERATORS`, or with ``imports`` also ``module:function``, a function of
            yours that takes weights and seed and returns a generator.
        weights: path of its weights; those in the package by default.
        seed: seed of generators with random weights.
        imports: whether ``name`` was typed by the user, so that code it names may be imported; a name
            that was read from a file of results must not be.
        class_index: the fixed class of a network that has classes; by default its class is searched too.

    Raises:
        ConfigurationError: there is no such generator or class, or it has no weights file.
        WeightsError: the weights cannot be used.
    """
    if class_index is not None:
        if name not in CONDITIONAL:
            raise ConfigurationError(
                f"generator.class_index = {class_index}: the generator {name} has no classes.",
                choices=[*CONDITIONAL, "null"],
            )
        return CONDITIONAL[name](weights, class_index)
    if ":" in name:
        if not imports:
            raise ConfigurationError(
                f"The generator {name} is code that a file names, which is not imported for that.",
                hint="If it is yours, name it yourself: generator=... or --generator ...",
            )
        return _imported(name)(weights, seed).freeze()
    if name not in GENERATORS:
        raise unknown("generator", name, [*GENERATORS, "module:function"])
    return GENERATORS[name](weights, seed)


def _imported(name: str) -> Maker:
    """Find ``module:function``, in the working directory too."""
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        maker = getattr(importlib.import_module(module), function)
        inspect.signature(maker).bind(None, 0)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"The generator {name} cannot be used: {error}.",
            hint="Give module:function of a function of weights and seed; the module lies in the working "
            "directory or is installed.",
        ) from error
    finally:
        sys.path.remove(here)

    def make(weights: Path | None, seed: int) -> SplitGenerator:
        made = maker(weights, seed)
        if not isinstance(made, SplitGenerator):
            raise ConfigurationError(
                f"{name} returned a {type(made).__name__}, not a SplitGenerator.",
                hint="SequentialGenerator makes one of a list of modules.",
            )
        return made

    return make


__all__ = [
    "GENERATORS",
    "MobileStyleGAN",
    "Resized",
    "SequentialGenerator",
    "Split",
    "SplitGenerator",
    "State",
    "TinyGenerator",
    "make_generator",
]
