"""Bounds against closed forms, and stretches of random matrices against their known distribution."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from ilo_pl import TinyGenerator, cli, theory
from ilo_pl.errors import ConfigurationError
from ilo_pl.operators import DenseGaussian

SETTING = theory.Setting(
    k=10, p=1000, lipschitz1=2.0, lipschitz2=3.0, r1=5.0, delta=0.5, K=12.0, gamma=0.5
)


def test_the_cover_of_the_extended_range_by_hand() -> None:
    within, dilation = theory.ilo_log_cover(SETTING)
    assert within == pytest.approx(10 * math.log(1 + 4 * 2 * 3 * 5 / 0.5))
    # r2 = delta / K, covered at delta / (2 L2): (2 L2 / K)^2 = 0.25, so that one draw is enough.
    assert dilation == pytest.approx(math.log(2001))
    wide = theory.ilo_log_cover(replace(SETTING, K=0.601))[1]
    assert wide == pytest.approx(100 * math.log(2001))


def test_a_small_ball_costs_about_what_csgm_needs_and_a_large_one_more_than_the_layer() -> None:
    """Remarks 2 and 3: ILO lies between the two."""
    csgm, layer = theory.csgm_log_cover(SETTING), theory.layer_log_cover(SETTING)
    tight = sum(theory.ilo_log_cover(replace(SETTING, K=1e6)))
    loose = sum(theory.ilo_log_cover(replace(SETTING, K=1e-2)))
    assert csgm < tight < csgm + 10 * math.log(2) + math.log(2001) + 1e-9
    assert loose > layer > tight


def test_measurements_and_error_are_the_stated_formulas() -> None:
    assert theory.measurements_needed(7.0, 0.75, constant=2.0) == pytest.approx(2 * 7 * 16)
    assert theory.error_bound(1.0, 0.25, 0.1, 0.4, 0.5) == pytest.approx(9 + 2 * (0.5 + 0.1 + 0.4))


def test_maureys_cover_covers() -> None:
    """The empirical method that the count rests on: averages of s draws come within r / sqrt(s)."""
    generator = np.random.default_rng(0)
    r, s, d = 2.0, 50, 30
    target = generator.dirichlet(np.ones(d)) * r * generator.choice([-1, 1], d)
    draws = generator.choice(d, size=(400, s), p=np.abs(target) / r)
    averages = np.stack([np.bincount(row, minlength=d) for row in draws]) / s * r * np.sign(target)
    distances = np.linalg.norm(averages - target, axis=1)
    assert np.sqrt((distances**2).mean()) <= r / math.sqrt(s)


def test_gaussian_matrices_stretch_by_a_chi_distribution() -> None:
    images = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    m = 20
    found = [
        float(theory.stretch(DenseGaussian((3, 8, 8), m, seed), images)) for seed in range(400)
    ]
    chi = scipy.stats.chi(m, scale=1 / math.sqrt(m))
    assert scipy.stats.kstest(found, chi.cdf).pvalue > 1e-3


def test_points_of_the_extended_range_are_as_far_as_their_radius(tiny: TinyGenerator) -> None:
    inside = theory.extended_range(tiny, 2, 0.0, 3, seed=0)
    again = theory.extended_range(tiny, 2, 0.0, 3, seed=0)
    outside = theory.extended_range(tiny, 2, 0.05, 3, seed=0)
    assert torch.equal(inside, again)
    latents = theory.rng.normal((1, 16), 0, ["0", "1", "2"], "theory latents")
    torch.testing.assert_close(inside, tiny(latents, "z"))
    assert 0 < float((outside - inside).abs().mean()) < 0.5


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("delta", -1.0), ("gamma", 1.0)])
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        replace(SETTING, **{name: value})


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ilo-pl", "theory", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_writes_tables_and_a_plot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "theory"
    keys = [f"output={out}", "counts=[20,200]", "images=8", "trials=2"]
    assert call(monkeypatch, *keys) == 0
    rows = list(csv.DictReader((out / "gamma.csv").read_text().splitlines()))
    least = {(r["matrix"], r["points"], int(r["m"])): float(r["smallest"]) for r in rows}
    for matrix in ("gaussian", "circulant"):
        for points in ("range", "extended range"):
            assert 0 < least[matrix, points, 20] < least[matrix, points, 200] < 1
    assert (out / "gamma.png").stat().st_size > 10_000
    assert call(monkeypatch, *keys) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([], "output must be given"),
        (["output=x", "gama=0.5"], "Did you mean 'gamma'"),
        (["output=x", "gamma=2"], "gamma = 2"),
        (["output=x", "split=9"], "Split 9 does not exist"),
        (["output=x", "run=nowhere"], "cannot be read as the configuration"),
        (["output=x", "matrices=[dense]"], "dense"),
    ],
)
def test_bad_keys(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *keys) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
