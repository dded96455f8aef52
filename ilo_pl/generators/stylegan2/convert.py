"""Turn a foreign StyleGAN2 file into our own safetensors, and say what was found in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

from ilo_pl.generators.stylegan2.checkpoint import own_metadata, read_checkpoint
from ilo_pl.generators.stylegan2.network import StyleGAN2


@dataclass(frozen=True)
class Converted:
    """A network that was read, ready to be saved.

    Args:
        network: the network.
        metadata: what its file will say of its origin.
        found: what there is to know of it, for people.
    """

    network: StyleGAN2
    metadata: dict[str, str]
    found: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the safetensors file, float32."""
        # A file may share tensors among layers; ours holds each.
        state = {name: value.clone() for name, value in self.network.state_dict().items()}
        safetensors.torch.save_file(state, path, self.metadata)


def convert_stylegan2(file: Path, licence: str) -> Converted:
    """Read a StyleGAN2 of any known format.

    Args:
        file: a path, or a name of the registry.
        licence: the licence of its weights.

    Raises:
        WeightsError: the file cannot be used.
    """
    checkpoint = read_checkpoint(file)
    network = StyleGAN2.from_checkpoint(checkpoint)
    metadata = own_metadata(checkpoint, licence)
    size = network.sizes[-1]
    channels = [len(checkpoint.state[f"synthesis.b{s}.conv1.bias"]) for s in network.sizes]
    built = checkpoint.architecture
    numbers = sum(p.numel() for p in network.parameters())
    found = {
        "file": str(checkpoint.path),
        "format": checkpoint.format,
        "sha256": metadata["source_sha256"],
        "architecture": f"StyleGAN2 ({built.kind}), {size} x {size}, {numbers:,} parameters",
        "colours": str(built.colours),
        "classes": str(built.classes or "none"),
        "channels": ", ".join(f"{s}: {c}" for s, c in zip(network.sizes, channels, strict=True)),
        "mapping": f"{built.mapping_layers} layers of {built.layer_features}, z of {built.z_dim}, "
        f"w of {built.dim}, learning rate {built.mapping_lr:g}",
        "clamp": "none" if built.conv_clamp is None else f"{built.conv_clamp:g}",
        "mean of w": "in the file"
        if "mapping.w_avg" in checkpoint.state
        else "estimated: not in the file",
        "noise strengths": ", ".join(
            f"{float(layer.noise_strength):.3g}" for layer in network.layers if layer.use_noise
        )
        or "no noise",
        "splits": ", ".join(f"{k} {split.name}" for k, split in enumerate(network.splits)),
        "licence": licence,
    }
    found.update((f"argument {k}", v) for k, v in checkpoint.arguments.items())
    return Converted(network, metadata, found)
