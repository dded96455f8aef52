"""Checkpoints of rosinality's stylegan2-pytorch, under the names of NVIDIA's code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators.stylegan2.layers import fir_kernel
from ilo_pl.weights.inert import Opaque, brief
from ilo_pl.weights.pickles import load_tensors

# A part of a layer: their name, ours.
_CONV = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "conv.blur.kernel": "resample_filter",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}
_RGB = {
    "conv.weight": "torgb.weight",
    "conv.modulation.weight": "torgb.affine.weight",
    "conv.modulation.bias": "torgb.affine.bias",
    "bias": "torgb.bias",
    "upsample.kernel": "resample_filter",
}


def read_rosinality(path: Path) -> dict[str, Tensor]:
    """Read the averaged generator ``g_ema`` of a checkpoint.

    Returns:
        Its state dictionary under NVIDIA's names.

    Raises:
        WeightsError: the file is damaged, holds something else, or holds more than tensors and plain
            containers.
    """
    # Training checkpoints hold their command line.
    content = load_tensors(path, lenient=False, extra={("argparse", "Namespace"): Opaque})
    theirs = content.get("g_ema") if isinstance(content, dict) else None
    if not isinstance(theirs, dict) or not all(isinstance(name, str) for name in theirs):
        held = ", ".join(map(brief, list(content)[:8])) if isinstance(content, dict) else ""
        raise WeightsError(
            f"{path} holds no averaged generator 'g_ema'; it holds {held or brief(content)}."
        )
    _check_architecture(path, theirs)
    state = dict(_renamed(path, theirs))
    average = content.get("latent_avg")
    if isinstance(average, Tensor):
        state["mapping.w_avg"] = average.flatten()
    return state


def _check_architecture(path: Path, theirs: Mapping[str, Tensor]) -> None:
    if "input.input" in theirs and "conv1.conv.weight" in theirs:
        return
    what = "not a StyleGAN2 generator"
    if any(name.startswith("generator.progression") for name in theirs):
        what = "a StyleGAN (1)"
    elif any(name.startswith("final_conv") for name in theirs):
        what = "a discriminator"
    raise WeightsError(f"{path}: its 'g_ema' is {what}.")


def _renamed(path: Path, theirs: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    named = []
    for name, value in theirs.items():
        ours = _rename(name)
        if ours is None or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: its 'g_ema' holds {brief(name)}, which is no part of a StyleGAN2."
            )
        named.append((ours, _reshape(ours, value.float())))
    # One of 4 x 4 pixels doubles no size.
    kernel = next((v for n, v in named if n.endswith("resample_filter")), fir_kernel())
    # NVIDIA's blocks and layers all keep the filter, rosinality's only where it is used.
    own = {n for n, _ in named}
    blocks = {n.rsplit(".", 2)[0] for n in own if n.endswith("conv1.weight")}
    wanted = [f"{b}.{part}resample_filter" for b in sorted(blocks) for part in ("", "conv1.")]
    return named + [(n, kernel) for n in wanted if n not in own]


def _reshape(name: str, value: Tensor) -> Tensor:
    """Drop the leading dimensions of size 1; their filters hold the gain of upsampling."""
    part = name.rsplit(".", 1)[-1]
    if part == "resample_filter":
        return value / 4
    if part == "noise_const":
        return value[0, 0] if value.ndim == 4 and value.shape[:2] == (1, 1) else value
    if part == "noise_strength":
        return value.reshape(()) if value.numel() == 1 else value
    if (part == "const" or (part == "weight" and value.ndim == 5)) and len(value) == 1:
        return value[0]
    if name.endswith("torgb.bias"):
        return value.flatten()
    return value


def _rename(name: str) -> str | None:
    """Return the name that NVIDIA's code gives to a part of rosinality's generator."""
    ours: str | None = None
    if name == "input.input":
        ours = "synthesis.b4.const"
    elif match := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", name):
        ours = f"mapping.fc{int(match[1]) - 1}.{match[2]}"  # number 0 is PixelNorm
    elif match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        ours = f"{_layer(int(match[1]))}.noise_const"
    elif match := re.fullmatch(r"(?:conv1|convs\.(\d{1,2}))\.(.+)", name):
        part = _CONV.get(match[2])
        ours = part and f"{_layer(0 if match[1] is None else int(match[1]) + 1)}.{part}"
    elif match := re.fullmatch(r"(?:to_rgb1|to_rgbs\.(\d))\.(.+)", name):
        part = _RGB.get(match[2])
        ours = part and f"synthesis.b{4 if match[1] is None else 2 ** (int(match[1]) + 3)}.{part}"
    return ours


def _layer(index: int) -> str:
    """Return NVIDIA's name of the convolution that is number ``index`` from the first."""
    return f"synthesis.b{2 ** ((index + 5) // 2)}.conv{(index + 1) % 2}"
