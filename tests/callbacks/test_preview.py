"""What a run tells those who look on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs.conftest import At, draw, folder, go  # noqa: F401


def test_who_looks_on_sees_where_the_search_is_and_changes_nothing(
    go,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ilo_pl.callbacks.preview.TELL_SECONDS", 0.0)
    monkeypatch.setattr("ilo_pl.callbacks.preview.LEAST_SECONDS", 0.0)
    seen, out = [], tmp_path / "out"

    def look() -> None:
        seen.append(json.loads((out / "live" / "progress.rank0.json").read_text()))

    go(tmp_path / "alone", "consistency=false")
    go(out, "consistency=false", "preview=true", callbacks=(At(8, look),))
    (then,) = seen
    assert (then["images"], then["stage"], then["stages"], then["split"]) == (["a"], 2, 2, 2)
    assert (then["step"], then["steps"], then["stage_step"]) == (8, 12, 2)
    assert then["loss"] > 0 and 0 <= then["seconds_left"] < 60
    for name in "abc":
        plain = (tmp_path / "alone" / "reconstructions" / f"{name}.png").read_bytes()
        assert (out / "reconstructions" / f"{name}.png").read_bytes() == plain
        last = np.asarray(Image.open(out / "live" / f"{name}.png"), int)
        result = np.asarray(Image.open(out / "reconstructions" / f"{name}.png"), int)
        assert np.abs(last - result).max() <= 1
    assert not list(out.rglob("*.part"))
