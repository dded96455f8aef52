"""Results as tables: Parquet, a row for each image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ilo_pl.errors import ConfigurationError
from ilo_pl.runs.outcome import Outcome, png

if TYPE_CHECKING:
    import pyarrow as pa

BINARY = ("image", "measurements", "latents")


def rows_of(
    outcomes: Sequence[Outcome], sources: Sequence[str], *, pictures: bool
) -> list[dict[str, Any]]:
    """Return a row for each image that has a result.

    Args:
        outcomes: what became of some images.
        sources: where each came from.
        pictures: whether rows hold pictures (PNG) and latents (safetensors), or figures only.
    """
    rows = []
    for outcome, source in zip(outcomes, sources, strict=True):
        if outcome.failure is not None:
            continue
        scores, found = outcome.scores, outcome.reconstruction
        row: dict[str, Any] = {
            "id": outcome.id,
            "source": source,
            "psnr": _number(scores.psnr if scores else None),
            "ssim": _number(scores.ssim if scores else None),
            "lpips": _number(scores.lpips if scores else None),
            "loss": _number(found.loss if found else None),
            "measured_error_found": _number(outcome.measured_error[0]),
            "measured_error": _number(outcome.measured_error[1]),
            "faults": outcome.faults,
            "seconds": outcome.seconds,
        }
        if pictures:
            row["image"] = outcome.png()
            row["measurements"] = None if outcome.picture is None else png(outcome.picture)
            row["latents"] = outcome.safetensors()
        rows.append(row)
    return rows


def results_table(rows: Sequence[dict[str, Any]], *, pictures: bool) -> bytes:
    """Return rows of :func:`rows_of` as a Parquet file."""
    pa = _pyarrow()
    numbers = ("psnr", "ssim", "lpips", "loss", "measured_error_found", "measured_error")
    fields = [("id", pa.string()), ("source", pa.string())]
    fields += [(name, pa.float64()) for name in numbers]
    fields += [("faults", pa.int64()), ("seconds", pa.float64())]
    fields += [(name, pa.binary()) for name in BINARY if pictures]
    return _file(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)))


def failures_table(rows: Sequence[tuple[str, str, str]]) -> bytes:
    """Return ids, sources and reasons as a Parquet file."""
    pa = _pyarrow()
    columns = ("id", "source", "reason")
    schema = pa.schema([(name, pa.string()) for name in columns])
    return _file(pa.Table.from_pylist([dict(zip(columns, r, strict=True)) for r in rows], schema))


def _file(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    # Pictures are compressed already.
    pq.write_table(
        table, file, compression={c: "NONE" if c in BINARY else "ZSTD" for c in table.column_names}
    )
    return file.getvalue()


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigurationError(
            "Tables of results need pyarrow, which is not installed.",
            hint='Run pip install "ilo_pl[ray]".',
        ) from error
    return pa


def _number(value: float | None) -> float | None:
    """Return a number; what is none, such as LPIPS of a tiny picture, stays empty."""
    return None if value is None or not math.isfinite(value) else float(value)
