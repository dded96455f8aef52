"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) that works without a download.

The ``lpips`` package carries the linear heads only. The AlexNet backbone is shipped with this package;
VGG16 is 29 MB and comes from a file, torchvision's cache or torchvision's download.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ilo_pl.errors import WeightsError
from ilo_pl.generators.weights import load_weights

Net = Literal["alex", "vgg"]
VGG_FILE = "vgg16-397923af.pth"
VGG_VARIABLE = "ILO_PL_LPIPS_VGG"


def load_lpips(net: Net = "alex", weights: Path | None = None) -> nn.Module:
    """Return ``lpips.LPIPS`` with its backbone loaded, frozen, in float32.

    Args:
        net: backbone.
        weights: safetensors file of the VGG16 backbone made by ``scripts/convert_lpips.py``; the
            environment variable ``ILO_PL_LPIPS_VGG`` is read when it is not given.

    Returns:
        A module that maps two images ``(B, 3, H, W)`` in [-1, 1] to distances ``(B, 1, 1, 1)``.

    Raises:
        WeightsError: the VGG16 backbone is nowhere to be had.
    """
    import lpips  # takes 2 s to import, for torchvision's sake

    with warnings.catch_warnings():
        # lpips calls torchvision with the argument names of 2021.
        warnings.simplefilter("ignore", UserWarning)
        module: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    convolutions = [m for m in module.net.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
    backbone = load_weights("lpips-alexnet") if net == "alex" else _vgg16(weights)
    with torch.no_grad():
        for i, convolution in enumerate(convolutions):
            convolution.weight.copy_(backbone[f"conv{i}.weight"])
            assert convolution.bias is not None
            convolution.bias.copy_(backbone[f"conv{i}.bias"])
    return module.eval().requires_grad_(False)


def _vgg16(path: Path | None) -> dict[str, Tensor]:
    """Find the VGG16 backbone: a given file, torchvision's cache, or its download."""
    if path is None and os.environ.get(VGG_VARIABLE):
        path = Path(os.environ[VGG_VARIABLE])
    if path is not None:
        try:
            tensors = safetensors.torch.load_file(path)
            assert len(tensors) == 26, "13 convolutions have a weight and a bias each"
            return tensors
        except (OSError, SafetensorError, AssertionError) as error:
            raise WeightsError(
                f"{path} is not a VGG16 backbone for LPIPS: {error}.", hint=_VGG_HINT
            ) from error
    try:
        from torchvision.models import VGG16_Weights

        state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"LPIPS with VGG16 needs the VGG16 backbone, and it could not be downloaded: {error}.",
            choices=("net=alex, which is shipped",),
            hint=_VGG_HINT,
        ) from error
    names = sorted({int(n.split(".")[1]) for n in state if n.startswith("features.")})
    return {
        f"conv{i}.{kind}": state[f"features.{layer}.{kind}"]
        for i, layer in enumerate(names)
        for kind in ("weight", "bias")
    }


_VGG_HINT = (
    f"Put torchvision's {VGG_FILE} into the folder checkpoints/ of torch.hub.get_dir(); or make the "
    f"file with scripts/convert_lpips.py and name it in {VGG_VARIABLE}."
)
