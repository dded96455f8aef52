"""How close reconstructions are to true images. Reads a run folder, never the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from ilo_pl.evaluation.further import further_scores
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import load_image
from ilo_pl.io.tables import write_table
from ilo_pl.losses.perceptual import LPIPS_SIZE, load_lpips

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


LEAST_SIZE = 32  # of AlexNet's input
RADIUS = 5  # pixels of SSIM's window on each side of its centre
AT_ONCE = 8  # images that are scored together on a GPU


@dataclass(frozen=True)
class Scores:
    """Scores of one image.

    Args:
        id: the image's id.
        psnr: peak signal-to-noise ratio in dB, higher is better.
        ssim: structural similarity, up to 1, higher is better; see :func:`ssim`. NaN below 11 x 11.
        lpips: LPIPS with AlexNet at 256 x 256, lower is better; NaN below 32 x 32, where it is not defined.
    """

    id: str
    psnr: float
    ssim: float
    lpips: float


class Scorer:
    """Compares images; loads the LPIPS network once.

    Args:
        device: where the scores are computed; images are brought there.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._lpips = load_lpips("alex").to(self.device)

    def __call__(self, image_id: str, image: Tensor, reference: Tensor) -> Scores:
        """Score an image ``(3, H, W)`` in [-1, 1] against the true one."""
        return self.batch([image_id], image[None], reference[None])[0]

    @torch.no_grad()
    def batch(self, ids: Sequence[str], images: Tensor, references: Tensor) -> list[Scores]:
        """Score images ``(B, 3, H, W)`` in [-1, 1] against the true ones, each by itself."""
        images, references = images.to(self.device), references.to(self.device)
        ours, true = (images + 1) / 2, (references + 1) / 2
        psnr = peak_signal_noise_ratio(ours, true, data_range=1.0, reduction="none", dim=(1, 2, 3))
        columns = (psnr, ssim(ours, true), self._perceptual(images, references))
        rows = zip(ids, *(column.tolist() for column in columns), strict=True)
        return [Scores(*row) for row in rows]

    def _perceptual(self, images: Tensor, references: Tensor) -> Tensor:
        if min(images.shape[-2:]) < LEAST_SIZE:
            return images.new_full((len(images),), math.nan)
        distance: Tensor = self._lpips(_shrink(images), _shrink(references))
        return distance.flatten()


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Return the structural similarity of images ``(B, C, H, W)`` in [0, 1]: ``(B,)``.

    As Wang et al. 2004 (doi:10.1109/TIP.2003.819861): Gaussian windows of standard deviation 1.5 and 11 x 11
    pixels, K1 = 0.01, K2 = 0.03, averaged over the windows that lie within the image and over channels.
    torchmetrics' own average counts windows over mirrored borders too, and scikit-image's, with these
    settings, is this one. NaN where an image is smaller than a window.
    """
    if min(images.shape[-2:]) <= 2 * RADIUS:
        return images.new_full((len(images),), math.nan)
    _, whole = structural_similarity_index_measure(
        images, references, data_range=1.0, reduction="none", return_full_image=True
    )
    assert whole.shape == images.shape
    within: Tensor = whole[..., RADIUS:-RADIUS, RADIUS:-RADIUS]
    return within.mean((1, 2, 3))


def _shrink(images: Tensor) -> Tensor:
    """Average down to 256 x 256, where the ILO paper computes LPIPS; smaller images stay as they are."""
    if min(images.shape[-2:]) <= LPIPS_SIZE:
        return images
    return F.interpolate(images, (LPIPS_SIZE, LPIPS_SIZE), mode="area")


def score_run(
    folder: RunFolder,
    references: Mapping[str, Path],
    device: torch.device | str = "cpu",
    errors: Mapping[str, tuple[float, float]] | None = None,
    further: Sequence[str] = (),
) -> list[Scores]:
    """Score every reconstruction of a run folder that has a reference and write ``metrics.csv``.

    Args:
        folder: the run folder.
        references: the true images by id.
        device: where the scores are computed; on a GPU several images at a time.
        errors: RMS of A x - y in 8-bit grey levels, of what the search found and of what is returned, by id; with
            them ``metrics.csv`` has a row for images without a reference too.
        further: names of further metrics (:mod:`ilo_pl.evaluation.further`), for more columns.
    """
    paths = sorted((folder.path / "reconstructions").glob("*.png"))
    compared = [path for path in paths if path.stem in references]
    scored = _score(compared, references, device, further)
    rows = {
        image_id: {"id": image_id, **_errors(pair)} for image_id, pair in (errors or {}).items()
    }
    for score, more in scored:
        rows[score.id] = {**asdict(score), **more, **rows.get(score.id, {})}
    if rows:
        write_table(folder, "metrics.csv", list(rows.values()))
    return [score for score, _ in scored]


def _errors(pair: tuple[float, float]) -> dict[str, Any]:
    return {"measured_error_found": pair[0], "measured_error": pair[1]}


def _score(
    paths: Sequence[Path],
    references: Mapping[str, Path],
    device: torch.device | str,
    further: Sequence[str],
) -> list[tuple[Scores, dict[str, float]]]:
    if not paths:
        return []
    scorer = Scorer(device)
    # On the CPU batches save no time, and one by one no image's last digit depends on another.
    at_once = 1 if scorer.device.type == "cpu" else AT_ONCE
    scored: list[tuple[Scores, dict[str, float]]] = []
    for start in range(0, len(paths), at_once):
        some = [
            (path.stem, load_image(path).rgb, load_image(references[path.stem]).rgb)
            for path in paths[start : start + at_once]
        ]
        for _, alike in groupby(some, key=lambda one: one[1].shape):
            ids, images, truths = zip(*alike, strict=True)
            scores = scorer.batch(ids, torch.stack(images), torch.stack(truths))
            pairs = zip(images, truths, strict=True)
            scored += zip(scores, (further_scores(further, *pair) for pair in pairs), strict=True)
    return scored


def write_scores(folder: RunFolder, scores: Sequence[DataclassInstance]) -> None:
    """Write ``metrics.csv``, one row for each of at least one score of the same kind."""
    write_table(folder, "metrics.csv", [asdict(score) for score in scores])
