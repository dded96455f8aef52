"""How far classifier-guided generation went from where it started. Reads a run folder, never the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ilo_pl.evaluation.metrics import Scorer, write_scores
from ilo_pl.evaluation.report import stage_images
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import load_image
from ilo_pl.operators import Classifier


@dataclass(frozen=True)
class GuidedScores:
    """Scores of one generated image.

    Args:
        id: the image's id.
        probability: what the classifier gives the wanted class, in [0, 1].
        probability_at_start: the same before the search.
        mse_from_start: mean squared difference from the image that the search started from, on [0, 1].
        lpips_from_start: LPIPS (AlexNet at 256 x 256) from that image.
    """

    id: str
    probability: float
    probability_at_start: float
    mse_from_start: float
    lpips_from_start: float


@torch.no_grad()
def score_guided(
    folder: RunFolder, ids: Sequence[str], classifier: Classifier, target: int
) -> list[GuidedScores]:
    """Score every image of a run and write ``metrics.csv``.

    Args:
        folder: the run folder; the first stage's pictures are the start.
        ids: ids of its images.
        classifier: judges the pictures as they were saved.
        target: number of the wanted class.
    """
    scorer = Scorer(classifier.device)
    scores = []
    for image_id in ids:
        first = next(iter(stage_images(folder, image_id).values()))
        start = load_image(first).rgb
        final = load_image(folder.path / "reconstructions" / f"{image_id}.png").rgb
        pair = torch.stack([start, final]).to(classifier.device)
        chances = classifier(pair).softmax(1)[:, target].tolist()
        distance = scorer(image_id, final, start)
        scores.append(
            GuidedScores(
                image_id,
                probability=chances[1],
                probability_at_start=chances[0],
                mse_from_start=float((final - start).square().mean()) / 4,
                lpips_from_start=distance.lpips,
            )
        )
    write_scores(folder, scores)
    return scores
