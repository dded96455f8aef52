"""How samples went and how true they are. Reads a run folder, never the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ilo_pl.inversion.posterior_file import load_posterior
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import load_image
from ilo_pl.io.tables import write_table

LEVELS = {"coverage_50": 0.5, "coverage_90": 0.9}


def score_posteriors(
    folder: RunFolder, ids: Sequence[str], references: Mapping[str, Path]
) -> list[dict[str, object]]:
    """Write ``posterior.csv``: how the chains of each image went, and how often its intervals hold the truth.

    Args:
        folder: the run folder; without samples nothing is written.
        ids: the images that have a result.
        references: true images by id.

    Returns:
        The rows.
    """
    rows: list[dict[str, object]] = []
    for image_id in ids:
        path = folder.path / "posterior" / f"{image_id}.safetensors"
        if not path.exists():
            continue
        posterior = load_posterior(path)
        row: dict[str, object] = {"id": image_id, **asdict(posterior.mixing)}
        if image_id in references:
            truth = load_image(references[image_id]).rgb
            row |= {name: posterior.coverage(truth, level) for name, level in LEVELS.items()}
        rows.append(row)
    if rows:
        write_table(folder, "posterior.csv", rows)
    return rows
