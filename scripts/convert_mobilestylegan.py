#!/usr/bin/env python
"""Turn the OpenVINO files of the ``random-face`` wheel into the weights that the package ships.

    pip download --no-deps random-face==2021.7.21.1
    python scripts/convert_mobilestylegan.py random_face-2021.7.21.1-py3-none-any.whl

writes ilo_pl/weights/mobilestylegan_ffhq.safetensors (float16) and prints its sha256. PULSE's statistics
of w are measured on the mapping network with one million draws.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from defusedxml import ElementTree
from torch import Tensor

from ilo_pl.generators.latents import v_statistics
from ilo_pl.generators.mobilestylegan import MobileStyleGAN
from ilo_pl.weights.registry import sha256_of

WHEEL_SHA256 = "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5"
OUTPUT = Path(__file__).parent.parent / "ilo_pl" / "weights" / "mobilestylegan_ffhq.safetensors"


def constants(wheel: zipfile.ZipFile, network: str) -> list[tuple[str, Tensor]]:
    """Return the float32 constants of one network with more than one value, in file order."""
    xml = ElementTree.parse(io.BytesIO(wheel.read(f"random_face/data/{network}.xml")))
    data = wheel.read(f"random_face/data/{network}.bin")
    found = []
    for layer in xml.getroot().iter("layer"):
        if layer.get("type") != "Const":
            continue
        info = layer.find("data").attrib
        shape = [int(s) for s in info["shape"].split(",") if s.strip()]
        count = int(np.prod(shape))
        if info["element_type"] == "f32" and count > 1:
            array = np.frombuffer(data, np.float32, count, int(info["offset"])).reshape(shape)
            found.append((layer.get("name"), torch.from_numpy(array.copy())))
    return found


def mapping_state(found: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Name the eight weights and biases of the mapping network."""
    tensors = [t for _, t in found]
    return {
        f"latents.mapping.layers.{i // 2}.{'bias' if i % 2 else 'weight'}": t
        for i, t in enumerate(tensors)
    }


def synthesis_state(found: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Name the constants of the synthesis network as :class:`MobileStyleGAN` does."""
    named = dict(found)
    mixers = [t for name, t in found if name.startswith("Mul_") and name.endswith("_copy")]
    noises = [t for _, t in found if t.ndim == 4 and t.shape[:2] == (1, 1) and t.shape[2] > 1]
    convs = [("stem", "m.conv1")] + [
        (f"blocks.{i}.conv{j}", f"m.layers.{i}.conv{j}") for i in range(7) for j in (1, 2)
    ]
    state = {"const": named["m.input.input"]}
    for (ours, theirs), mixer, noise in zip(convs, mixers, noises, strict=True):
        state[f"{ours}.modulation.weight"] = named[f"{theirs}.conv.modulation.weight"]
        state[f"{ours}.modulation.bias"] = named[f"{theirs}.conv.modulation.bias"].flatten()
        state[f"{ours}.weight"] = mixer
        state[f"{ours}.bias"] = named[f"{theirs}.bias"].flatten()
        # The file holds strength * n; kept apart, n keeps its precision in float16.
        strength = noise.double().std(correction=0)
        state[f"{ours}.noise"] = (noise / strength).float()
        state[f"{ours}.strength"] = strength.float()
        if ours != "stem":
            state[f"{ours}.depthwise"] = named[f"{theirs}.conv.weight_dw"].flatten(0, 1)
    for i in range(7):
        state[f"blocks.{i}.up.weight"] = named[f"m.layers.{i}.up.modulation.weight"]
        state[f"blocks.{i}.up.bias"] = named[f"m.layers.{i}.up.modulation.bias"].flatten()
    head = "m.layers.6.to_img"
    state["head_modulation.weight"] = named[f"{head}.conv.modulation.weight"]
    state["head_modulation.bias"] = named[f"{head}.conv.modulation.bias"].flatten()
    state["head.weight"] = named[f"{head}.conv.weight"]
    state["head.bias"] = named[f"{head}.bias"].flatten()
    return state


def convert(wheel_path: Path) -> dict[str, Tensor]:
    """Return the complete state dictionary in float32.

    Raises:
        SystemExit: the wheel is not the one this script was written for.
    """
    found = sha256_of(wheel_path)
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel_path}: sha256 is {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel_path) as wheel:
        state = mapping_state(constants(wheel, "MappingNetwork"))
        state |= synthesis_state(constants(wheel, "SynthesisNetwork"))
    generator = MobileStyleGAN()
    generator.load_state_dict(state, strict=False)
    mean, std = v_statistics(generator.latents.mapping, generator.latent_dim, samples=1_000_000)
    state |= {"latents.v_mean": mean, "latents.v_std": std}
    generator.load_state_dict(state)  # strict: nothing missing, nothing left over
    return state


def stored(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor as it is stored: float16, but for the few numbers that must stay exact."""
    exact = name.endswith("strength") or name.startswith("latents.v_")
    return tensor.contiguous() if exact else tensor.half().contiguous()


def main() -> None:
    """Convert and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    state = {name: stored(name, tensor) for name, tensor in convert(arguments.wheel).items()}
    safetensors.torch.save_file(state, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {size:.1f} MB, sha256 {sha256_of(arguments.output)}")


if __name__ == "__main__":
    main()
