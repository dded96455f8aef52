"""What a StyleGAN2 is built of: everything beside its weights that changes the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from ilo_pl.errors import ConfigurationError
from ilo_pl.spec import Spec

RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
Kind = Literal["skip", "orig", "resnet"]
ActivationName = Literal[
    "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"
]
# Far above what was ever trained, and small enough that a file cannot ask for more memory than there is.
Width = Annotated[int, Field(ge=1, le=4096)]


class Architecture(Spec):
    """The arguments that a StyleGAN2 is constructed with.

    Args:
        resolution: side of the images, 4 to 1024.
        channels: channels of the blocks from 4 x 4 on, see :func:`channels_by_size`.
        dim: size of w.
        z_dim: size of z.
        mapping_layers: depth of the mapping network.
        layer_features: width of its inner layers.
        mapping_lr: what its weights are multiplied with when they are used (equalised learning rate).
        mapping_activation: its activation.
        classes: number of classes; 0 for a network without.
        embed_features: size of a class's embedding; 0 without classes.
        colours: colours of an image: 1, 3, or 4 with transparency, which is dropped.
        kind: ``skip`` adds up images of all sizes, ``orig`` draws the last one only, ``resnet`` has
            residual blocks.
        activation: the activation of the convolutions.
        use_noise: whether there are noise inputs.
        conv_clamp: what activations are clamped to; 256 for networks trained in half precision.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    resolution: int
    channels: tuple[Width, ...]
    dim: Width = 512
    z_dim: Width = 512
    mapping_layers: Annotated[int, Field(ge=1, le=64)] = 8
    layer_features: Width = 512
    mapping_lr: Annotated[float, Field(gt=0, le=1e6)] = 0.01
    mapping_activation: ActivationName = "lrelu"
    classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    embed_features: Annotated[int, Field(ge=0, le=4096)] = 0
    colours: Literal[1, 3, 4] = 3
    kind: Kind = "skip"
    activation: ActivationName = "lrelu"
    use_noise: bool = True
    conv_clamp: Annotated[float, Field(ge=0)] | None = None

    def check(self) -> None:
        """Raise :class:`ConfigurationError` unless the arguments fit each other."""
        if self.resolution not in RESOLUTIONS:
            raise ConfigurationError(
                f"StyleGAN2 of resolution {self.resolution} is not known.",
                choices=map(str, RESOLUTIONS),
            )
        if len(self.channels) != len(self.sizes):
            raise ConfigurationError(
                f"{len(self.channels)} channel counts for {len(self.sizes)} blocks, of {self.sizes} pixels."
            )
        if bool(self.classes) != bool(self.embed_features):
            raise ConfigurationError(
                f"{self.classes} classes with embeddings of {self.embed_features} numbers."
            )

    @property
    def sizes(self) -> list[int]:
        """Sides of the blocks, 4, 8, ... up to the resolution."""
        return [2**i for i in range(2, self.resolution.bit_length())]

    def mapping_widths(self) -> list[int]:
        """Return the widths that the mapping network's layers lie between."""
        inner = [self.layer_features] * (self.mapping_layers - 1)
        return [self.z_dim + self.embed_features, *inner, self.dim]


def channels_by_size(
    resolution: int, channel_base: int = 32768, channel_max: int = 512
) -> tuple[int, ...]:
    """Return the channels of the blocks 4 x 4, 8 x 8, ... up to ``resolution``.

    ``channel_base`` is 32768 for config-f and 16384 for config-e; rosinality's ``channel_multiplier``
    is ``channel_base / 16384``.
    """
    sizes = [2**i for i in range(2, resolution.bit_length())]
    return tuple(min(channel_base // size, channel_max) for size in sizes)


def read_off(state: Mapping[str, Tensor], **told: Any) -> Architecture:
    """Read off a state dictionary with NVIDIA's names what its shapes tell.

    Args:
        state: the tensors.
        told: what no shape tells, where it is not the default of :class:`Architecture`.

    Raises:
        ConfigurationError: the shapes are not those of a StyleGAN2.
    """

    def shape(name: str, *, ndim: int) -> tuple[int, ...]:
        value = state.get(name)
        return tuple(value.shape) if value is not None and value.ndim == ndim else ()

    weights = [shape(f"synthesis.b{s}.conv1.weight", ndim=4) for s in RESOLUTIONS]
    found = [w for w in weights if w]
    layers = sum(1 for n in state if n.startswith("mapping.fc") and n.endswith(".weight"))
    first = shape("mapping.fc0.weight", ndim=2)
    last = shape(f"mapping.fc{layers - 1}.weight", ndim=2)
    # Blocks follow each other from 4 x 4 on.
    if not found or not all(weights[: len(found)]) or not first or not last:
        sizes = [s for s, w in zip(RESOLUTIONS, weights, strict=True) if w]
        raise ConfigurationError(f"it has {layers} mapping layers and blocks of {sizes} pixels")
    resolution = RESOLUTIONS[len(found) - 1]
    embed = shape("mapping.embed.weight", ndim=2) or (0, 0)
    colours = shape(f"synthesis.b{resolution}.torgb.bias", ndim=1) or (3,)
    shapes: dict[str, Any] = {
        "resolution": resolution,
        "channels": tuple(w[0] for w in found),
        "dim": last[0],
        "z_dim": first[1] - embed[0],
        "mapping_layers": layers,
        "layer_features": first[0],
        "classes": embed[1],
        "embed_features": embed[0],
        "colours": colours[0],
        "use_noise": "synthesis.b4.conv1.noise_strength" in state,
    }
    return Architecture(**shapes, **told)
