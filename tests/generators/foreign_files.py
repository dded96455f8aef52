"""Write a network in the formats of NVIDIA's and rosinality's code, as these codes do.

Independent of how the formats are read: the names are spelled out again, from the published sources.
"""

from __future__ import annotations

import argparse
import gzip
import math
import pickle
import sys
import types
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


class _Reconstructed:
    """Pickles as torch_utils.persistence's objects do."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.meta = meta

    def __reduce__(self) -> tuple[Any, ...]:
        function = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj  # type: ignore[attr-defined]
        return function, (self.meta,), None


def _fake_modules(monkeypatch: pytest.MonkeyPatch) -> type[dict[str, Any]]:
    """Make the names importable that NVIDIA's pickles hold; only the writer needs them."""

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("the reader must not import this")

    persistence = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    util = types.ModuleType("dnnlib.util")
    util.EasyDict = easy  # type: ignore[attr-defined]
    for name, module in (
        ("torch_utils", types.ModuleType("torch_utils")),
        ("torch_utils.persistence", persistence),
        ("dnnlib", types.ModuleType("dnnlib")),
        ("dnnlib.util", util),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return easy


BUFFERS = ("noise_const", "resample_filter", "w_avg")
GAIN = {"lrelu": np.sqrt(2), "relu": np.sqrt(2), "swish": np.sqrt(2)}


@dataclass(frozen=True)
class Built:
    """What NVIDIA's constructors are told and no tensor shows."""

    clamp: Any = None
    kind: str = "skip"
    lr: float = 0.01
    activation: str = "lrelu"
    mapping_activation: str = "lrelu"
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)


def _module(
    class_name: str, tensors: dict[str, Tensor], children: dict[str, Any], **attributes: Any
) -> _Reconstructed:
    parameters = {
        n: torch.nn.Parameter(t, requires_grad=False)
        for n, t in tensors.items()
        if n not in BUFFERS
    }
    state = {
        "training": False,
        "_parameters": OrderedDict(parameters),
        "_buffers": OrderedDict((n, t) for n, t in tensors.items() if n in BUFFERS),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict(children),
        **attributes,
        "_init_args": (),
    }
    source = "raise SystemExit('this source must never be run')"
    return _Reconstructed(
        {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": class_name,
            "state": state,
        }
    )


def _attributes(  # noqa: PLR0911
    prefix: str, here: dict[str, Tensor], built: Built, easy: type[dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """Return the class of NVIDIA's module and what its constructor writes into it."""
    name = prefix.rstrip(".").rpartition(".")[2]
    weight = here.get("weight")
    if name in ("affine", "embed") or name.startswith("fc"):
        assert weight is not None
        mapped = name.startswith("fc")
        lr: float = built.lr if mapped else 1
        return "FullyConnectedLayer", {
            "in_features": weight.shape[1],
            "out_features": weight.shape[0],
            "activation": built.mapping_activation if mapped else "linear",
            "weight_gain": lr / np.sqrt(weight.shape[1]),
            "bias_gain": lr,
        }
    if name in ("conv0", "conv1"):
        return "SynthesisLayer", {
            "w_dim": here["affine.weight"].shape[1],
            "up": 2 if name == "conv0" else 1,
            "use_noise": "noise_strength" in here,
            "activation": built.activation,
            "conv_clamp": built.clamp,
            "padding": 1,
            "act_gain": GAIN.get(built.activation, 1),
        }
    if name == "torgb":
        assert weight is not None
        gain = 1 / np.sqrt(weight.shape[1])
        return "ToRGBLayer", {"conv_clamp": built.clamp, "weight_gain": gain}
    if name == "skip":
        assert weight is not None
        return "Conv2dLayer", {
            "activation": "linear",
            "up": 2,
            "down": 1,
            "conv_clamp": None,
            "padding": 0,
            "weight_gain": 1 / np.sqrt(weight.shape[1]),
            "act_gain": 1,
        }
    if name.startswith("b"):
        return "SynthesisBlock", {"architecture": built.kind, "use_fp16": False, "num_conv": 2}
    if name == "mapping":
        return "MappingNetwork", {"num_ws": 8, "w_avg_beta": 0.998}
    if name == "synthesis":
        return "SynthesisNetwork", {"num_fp16_res": 0, "block_resolutions": [4, 8]}
    kwargs = easy(z_dim=32, c_dim=0, synthesis_kwargs=easy(conv_clamp=built.clamp), **built.kwargs)
    return "Generator", {"z_dim": 32, "img_channels": 3, "_init_kwargs": kwargs}


def nvidia_objects(
    state: dict[str, Tensor], easy: type[dict[str, Any]], built: Built
) -> _Reconstructed:
    """Build the tree of modules of NVIDIA's Generator from its state dictionary."""

    def build(prefix: str) -> _Reconstructed:
        here = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        tensors = {k: v for k, v in here.items() if "." not in k}
        names = dict.fromkeys(k.split(".")[0] for k in here if "." in k)
        children = {child: build(f"{prefix}{child}.") for child in names}
        try:
            kind, attributes = _attributes(prefix, here, built, easy)
        except KeyError:  # another network's part
            kind, attributes = "Module", {}
        attributes |= built.extra.get(prefix.rstrip("."), {})
        return _module(kind, tensors, children, **attributes)

    return build("")


def write_nvidia(
    path: Path,
    state: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    built: Built | None = None,
    *,
    key: str | None = "G_ema",
    protocol: int = 3,
    compress: bool = False,
) -> Path:
    """Write a snapshot pickle; ``state`` has NVIDIA's names. Without a key the network is saved bare."""
    with monkeypatch.context() as patch:
        easy = _fake_modules(patch)
        content: Any = nvidia_objects(state, easy, built or Built())
        if key is not None:
            content = {
                "training_set_kwargs": easy(resolution=64),
                "augment_pipe": None,
                key: content,
            }
        data = pickle.dumps(content, protocol=protocol)
    path.write_bytes(gzip.compress(data, 1) if compress else data)
    return path


def rosinality_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return NVIDIA's state dictionary as rosinality's ``Generator`` has it."""
    kernel = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2)
    kernel = kernel / kernel.sum() * 4
    sizes = sorted(int(k.split(".")[1][1:]) for k in state if k.endswith("torgb.weight"))
    theirs = {"input.input": state["synthesis.b4.const"][None]}
    for k, v in state.items():
        if k.startswith("mapping.fc"):
            number, part = k.removeprefix("mapping.fc").split(".")
            theirs[f"style.{int(number) + 1}.{part}"] = v

    def conv(there: str, here: str, up: bool) -> None:
        theirs[f"{there}.conv.weight"] = state[f"{here}.weight"][None]
        theirs[f"{there}.conv.modulation.weight"] = state[f"{here}.affine.weight"]
        theirs[f"{there}.conv.modulation.bias"] = state[f"{here}.affine.bias"]
        theirs[f"{there}.noise.weight"] = state[f"{here}.noise_strength"].reshape(1)
        theirs[f"{there}.activate.bias"] = state[f"{here}.bias"]
        if up:
            theirs[f"{there}.conv.blur.kernel"] = kernel
        index = 0 if there == "conv1" else int(there.split(".")[1]) + 1
        theirs[f"noises.noise_{index}"] = state[f"{here}.noise_const"][None, None]

    def colours(there: str, here: str, up: bool) -> None:
        theirs[f"{there}.conv.weight"] = state[f"{here}.weight"][None]
        theirs[f"{there}.conv.modulation.weight"] = state[f"{here}.affine.weight"]
        theirs[f"{there}.conv.modulation.bias"] = state[f"{here}.affine.bias"]
        theirs[f"{there}.bias"] = state[f"{here}.bias"].reshape(1, 3, 1, 1)
        if up:
            theirs[f"{there}.upsample.kernel"] = kernel

    for size in sizes:
        i = int(math.log2(size)) - 3
        if size == 4:
            conv("conv1", "synthesis.b4.conv1", up=False)
            colours("to_rgb1", "synthesis.b4.torgb", up=False)
        else:
            conv(f"convs.{2 * i}", f"synthesis.b{size}.conv0", up=True)
            conv(f"convs.{2 * i + 1}", f"synthesis.b{size}.conv1", up=False)
            colours(f"to_rgbs.{i}", f"synthesis.b{size}.torgb", up=True)
    return theirs


def write_rosinality(
    path: Path, state: dict[str, Tensor], *, average: bool = True, zipped: bool = True
) -> Path:
    """Write a training checkpoint, with its command line and optimiser."""
    content: dict[str, Any] = {
        "g_ema": rosinality_state(state),
        "g_optim": {"state": {}, "param_groups": [{"lr": 0.002}]},
        "args": argparse.Namespace(size=64, channel_multiplier=2),
    }
    if average:
        content["latent_avg"] = state["mapping.w_avg"]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
