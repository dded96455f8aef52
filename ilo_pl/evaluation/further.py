"""Further metrics of torchmetrics, by name, beside the three that every run has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ilo_pl.errors import ConfigurationError, unknown


@dataclass(frozen=True)
class Metric:
    """A full-reference metric of images.

    Args:
        function: its name in ``torchmetrics.functional`` or ``torchmetrics.functional.image``.
        options: further arguments.
        least: the shorter side, in pixels, below which it is not defined.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    least: int = 1


# Scores has these already.
ALWAYS = ("psnr", "ssim", "lpips")
UNIT = {"data_range": 1.0}
# Those that need nothing but two images in [0, 1]: no download, no second band.
FURTHER = {
    "ergas": Metric("error_relative_global_dimensionless_synthesis", {"ratio": 1}),
    "mae": Metric("mean_absolute_error"),
    "mse": Metric("mean_squared_error"),
    "ms_ssim": Metric("multiscale_structural_similarity_index_measure", UNIT, 161),
    "nrmse": Metric("normalized_root_mean_squared_error", {"normalization": "range"}),
    "pearson": Metric("pearson_corrcoef"),
    "rmse": Metric("mean_squared_error", {"squared": False}),
    "sam": Metric("spectral_angle_mapper"),
    "scc": Metric("spatial_correlation_coefficient", least=11),
    "uqi": Metric("universal_image_quality_index", least=11),
    "vif": Metric("visual_information_fidelity", least=41),
}
FLAT = ("mae", "mse", "nrmse", "pearson", "rmse")


def check_metrics(names: Sequence[str], compared: bool) -> tuple[str, ...]:
    """Return names of metrics, each once.

    Args:
        names: of :data:`FURTHER`, or those that are always there.
        compared: whether there are references.

    Raises:
        ConfigurationError: one is unknown, or there is nothing to compare with.
    """
    for name in names:
        if name not in {*ALWAYS, *FURTHER}:
            raise unknown("metric", name, [*ALWAYS, *FURTHER])
    if names and not compared:
        raise ConfigurationError(
            f"metrics = {list(names)} compare results with true images, and there are none.",
            hint="Give them with reference=..., or leave metrics out.",
        )
    return tuple(dict.fromkeys(names))


@torch.no_grad()
def further_scores(names: Sequence[str], image: Tensor, reference: Tensor) -> dict[str, float]:
    """Return further scores of one image by name, NaN where an image is too small for one.

    Args:
        names: of :data:`FURTHER`; others are left out.
        image: ``(3, H, W)`` in [-1, 1].
        reference: the true one, likewise.
    """
    ours, true = ((picture[None].float() + 1) / 2 for picture in (image, reference))
    scores = {}
    for name in names:
        if name not in FURTHER:
            continue
        metric = FURTHER[name]
        if min(image.shape[-2:]) < metric.least:
            scores[name] = math.nan
            continue
        pair = (ours.flatten(), true.flatten()) if name in FLAT else (ours, true)
        scores[name] = float(_function(metric.function)(*pair, **metric.options))
    return scores


def _function(name: str) -> Callable[..., Tensor]:
    from torchmetrics import functional
    from torchmetrics.functional import image

    found: Callable[..., Tensor] = getattr(image, name, None) or getattr(functional, name)
    return found
