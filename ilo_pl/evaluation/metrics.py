"""How close reconstructions are to true images. Reads a run folder, never the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import load_image
from ilo_pl.io.tables import write_table
from ilo_pl.losses.perceptual import LPIPS_SIZE, load_lpips

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


LEAST_SIZE = 32  # of AlexNet's input


@dataclass(frozen=True)
class Scores:
    """Scores of one image.

    Args:
        id: the image's id.
        psnr: peak signal-to-noise ratio in dB, higher is better.
        ssim: structural similarity, up to 1, higher is better.
        lpips: LPIPS with AlexNet at 256 x 256, lower is better; NaN below 32 x 32, where it is not defined.
    """

    id: str
    psnr: float
    ssim: float
    lpips: float


class Scorer:
    """Compares images; loads the LPIPS network once."""

    def __init__(self) -> None:
        self._lpips = load_lpips("alex")

    @torch.no_grad()
    def __call__(self, image_id: str, image: Tensor, reference: Tensor) -> Scores:
        """Score an image ``(3, H, W)`` in [-1, 1] against the true one."""
        ours, true = ((x[None] + 1) / 2 for x in (image, reference))
        ssim = structural_similarity_index_measure(ours, true, data_range=1.0)
        assert isinstance(ssim, Tensor)
        return Scores(
            image_id,
            float(peak_signal_noise_ratio(ours, true, data_range=1.0)),
            float(ssim),
            self._perceptual(image, reference),
        )

    def _perceptual(self, image: Tensor, reference: Tensor) -> float:
        if min(image.shape[-2:]) < LEAST_SIZE:
            return math.nan
        return float(self._lpips(*(_shrink(x[None]) for x in (image, reference))))


def _shrink(images: Tensor) -> Tensor:
    """Average down to 256 x 256, where the ILO paper computes LPIPS; smaller images stay as they are."""
    if min(images.shape[-2:]) <= LPIPS_SIZE:
        return images
    return F.interpolate(images, (LPIPS_SIZE, LPIPS_SIZE), mode="area")


def score_run(folder: RunFolder, references: Mapping[str, Path]) -> list[Scores]:
    """Score every reconstruction of a run folder that has a reference and write ``metrics.csv``."""
    scorer = Scorer()
    scores = [
        scorer(path.stem, load_image(path).rgb, load_image(references[path.stem]).rgb)
        for path in sorted((folder.path / "reconstructions").glob("*.png"))
        if path.stem in references
    ]
    write_scores(folder, scores)
    return scores


def write_scores(folder: RunFolder, scores: Sequence[DataclassInstance]) -> None:
    """Write ``metrics.csv``, one row for each of at least one score of the same kind."""
    write_table(folder, "metrics.csv", [asdict(score) for score in scores])
