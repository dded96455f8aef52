"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) that works without a download.

The ``lpips`` package carries the linear heads only. The AlexNet backbone is shipped with this package;
VGG16 is 29 MB and comes from a file, torchvision's cache or torchvision's download.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.losses.base import LossInputs, LossTerm
from ilo_pl.operators import ForwardOperator, Mask
from ilo_pl.weights.hub import hub_tensors
from ilo_pl.weights.load import load_weights, read_safetensors

Net = Literal["alex", "vgg"]
VGG_FILE = "vgg16-397923af.pth"
VGG_VARIABLE = "ILO_PL_LPIPS_VGG"
# Where the ILO paper computes LPIPS.
LPIPS_SIZE = 256


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
    backbone = load_weights("lpips-alexnet") if net == "alex" else _vgg16(weights)
    import lpips  # takes 2 s to import, for torchvision's sake

    with warnings.catch_warnings():
        # lpips calls torchvision with the argument names of 2021.
        warnings.simplefilter("ignore", UserWarning)
        module: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    convolutions = [m for m in module.net.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
    wanted = {
        f"conv{i}.{kind}": getattr(convolution, kind)
        for i, convolution in enumerate(convolutions)
        for kind in ("weight", "bias")
    }
    shapes, found = ({n: v.shape for n, v in d.items()} for d in (wanted, backbone))
    if shapes != found:
        raise WeightsError(
            f"The backbone is not that of LPIPS with {net}: it has {len(found)} tensors, of which "
            f"{sum(found.get(n) == s for n, s in shapes.items())} of {len(shapes)} fit.",
            hint=_VGG_HINT,
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(backbone[name])
    return module.eval().requires_grad_(False)


def _vgg16(path: Path | None) -> dict[str, Tensor]:
    """Find the VGG16 backbone: a given file, torchvision's cache, or its download."""
    if path is None and os.environ.get(VGG_VARIABLE):
        path = Path(os.environ[VGG_VARIABLE])
    if path is not None:
        try:
            return read_safetensors(path)[0]
        except WeightsError as error:
            raise WeightsError(
                f"{path} is not a VGG16 backbone for LPIPS: {error.what}", hint=_VGG_HINT
            ) from None
    from torchvision.models import VGG16_Weights  # takes 2 s to import

    try:
        state = hub_tensors(VGG16_Weights.IMAGENET1K_V1.url)
    except WeightsError as error:
        raise WeightsError(
            f"LPIPS with VGG16 needs the VGG16 backbone: {error.what}",
            choices=("net=alex, which is shipped",),
            hint=_VGG_HINT,
        ) from None
    names = [n for n in state if re.fullmatch(r"features\.\d+\.(weight|bias)", str(n))]
    layers = sorted({int(n.split(".")[1]) for n in names})
    return {
        f"conv{layers.index(int(layer))}.{kind}": state[f"features.{layer}.{kind}"]
        for _, layer, kind in (n.split(".") for n in names)
    }


_VGG_HINT = (
    f"Put torchvision's {VGG_FILE} into the folder checkpoints/ of torch.hub.get_dir(); or make the "
    f"file with scripts/convert_lpips.py and name it in {VGG_VARIABLE}."
)


@cache
def _shared_lpips(net: Net, device: torch.device) -> nn.Module:
    """Return the network that all losses on a device share; nobody moves it, and it is frozen."""
    return load_lpips(net).to(device)


def resize_for_lpips(images: Tensor) -> Tensor:
    """Bring the shorter side of images ``(B, 3, h, w)`` to 256 pixels.

    Larger images are averaged down, smaller ones enlarged bilinearly: the networks were trained at about
    this size and have no features for a few pixels.
    """
    height, width = images.shape[-2:]
    scale = LPIPS_SIZE / min(height, width)
    size = (round(height * scale), round(width * scale))
    if scale == 1:
        return images
    if scale < 1:
        return F.interpolate(images, size, mode="area")
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


class _PerceptualTerm(LossTerm):
    """A term made of LPIPS; see its two subclasses.

    Args:
        net: backbone, ``alex`` (shipped) or ``vgg``.

    Raises:
        ConfigurationError: there is no such backbone.
        WeightsError: the VGG16 backbone is nowhere to be had.
    """

    is_fidelity: ClassVar[bool] = True

    def __init__(self, net: Net = "alex") -> None:
        super().__init__()
        if net not in get_args(Net):
            raise ConfigurationError(f"There is no LPIPS net {net!r}.", choices=get_args(Net))
        self._net: Net = net
        _shared_lpips(net, torch.device("cpu"))

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """Return LPIPS's features of pictures at 256 x 256, of unit length at every place."""
        lpips = _shared_lpips(self._net, pictures.device)
        layers = lpips.net(lpips.scaling_layer(resize_for_lpips(pictures)))  # type: ignore[operator]
        # 1e-10 as lpips has it.
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in layers]

    def _distance(self, ours: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        """Return the distance of two pictures, ``(B,)``, from their features."""
        lpips = _shared_lpips(self._net, ours[0].device)
        layers = zip(lpips.lins, ours, given, strict=True)  # type: ignore[arg-type]
        parts = [lin((a - b).square()).mean((1, 2, 3)) for lin, a, b in layers]
        distance: Tensor = sum(parts[1:], parts[0])
        return distance


@final
class MeasurementLPIPS(_PerceptualTerm):
    """LPIPS between the picture that was measured and the one that is predicted, at 256 x 256.

    For measurements that are pictures: of three channels, or of one, which is shown as grey. Features of measurements
    that are the same tensor as in the step before, unchanged, are not computed again.
    """

    _known: tuple[Tensor, int, list[Tensor]] | None = None

    def check(self, operator: ForwardOperator) -> None:
        """Refuse measurements that are no picture."""
        shape = operator.measurement_shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigurationError(
                f"The loss 'lpips' compares pictures, and {type(operator).__name__} measures "
                f"{' x '.join(map(str, shape))} numbers that are none.",
                hint="Use method.losses.lpips=0 with mse, l1 or dead_zone for this operator.",
            )

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the distance of each image, ``(B,)``."""
        given = inputs.measurements
        if self._known is None or self._known[0] is not given or self._known[1] != given._version:
            with torch.no_grad():
                self._known = given, given._version, self._features(_as_rgb(given))
        return self._distance(self._features(_as_rgb(inputs.predicted)), self._known[2])


@final
class SuperimposedLPIPS(_PerceptualTerm):
    """LPIPS for inpainting: missing pixels are filled from the reconstruction (ILO, section 4.2).

    A masked picture shrunk to 256 x 256 is mostly grey, which no network was trained on. So the given
    picture is completed with the current reconstruction, without gradient, and compared with it.
    """

    def check(self, operator: ForwardOperator) -> None:
        """Refuse operators that are no mask."""
        if not isinstance(operator, Mask):
            raise ConfigurationError(
                f"The loss 'lpips_superimposed' fills missing pixels, and {type(operator).__name__} has "
                "none.",
                hint="Use the loss 'lpips' for pictures without missing pixels.",
            )

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the distance of each image, ``(B,)``."""
        assert isinstance(inputs.operator, Mask)
        missing = inputs.image * (1 - inputs.operator.mask)
        ours = inputs.predicted + missing
        with torch.no_grad():
            given = self._features(inputs.measurements + missing)
        return self._distance(self._features(ours), given)


def _as_rgb(picture: Tensor) -> Tensor:
    return picture.expand(-1, 3, -1, -1)
