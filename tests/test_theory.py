"""Bounds against closed forms, and stretches of random matrices against their known distribution."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.generators import Split, SplitGenerator, State
from ilo_pl.operators import DenseGaussian, PartialCirculant
from ilo_pl.paper import bounds
from tests.conftest import command

SETTING = bounds.Setting(
    k=10, p=1000, lipschitz1=2.0, lipschitz2=3.0, r1=5.0, delta=0.5, K=12.0, gamma=0.5
)


class Linear(SplitGenerator):
    """G1 and G2 are orthonormal times 2 and 3: their Lipschitz constants, attained everywhere."""

    latent_spaces: ClassVar[tuple[str, ...]] = ("z",)

    def __init__(self, k: int, p: int) -> None:
        super().__init__()
        self.latent_dim, self.num_slots, self.noise_shapes = k, 1, ()
        draws = torch.Generator().manual_seed(0)
        self.first = 2 * torch.linalg.qr(torch.randn(p, k, generator=draws))[0]
        self.second = 3 * torch.linalg.qr(torch.randn(192, p, generator=draws))[0]
        self.splits = (
            Split("latent", {}, 0, 0),
            Split("middle", {"hidden": (p,)}, 1, 0),
            Split("image", {"image": (3, 8, 8)}, 1, 0),
        )

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        if k == 0:
            return {"hidden": styles[:, 0] @ self.first.T}
        return {"image": (state["hidden"] @ self.second.T).view(-1, 3, 8, 8)}

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        return latents

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        return normal

    def stored_noise(self, index: int) -> Tensor:
        raise IndexError(index)


def test_the_cover_of_the_extended_range_by_hand() -> None:
    within, dilation = bounds.ilo_log_cover(SETTING)
    assert within == pytest.approx(10 * math.log(1 + 4 * 2 * 3 * 5 / 0.5))
    # r2 = delta / K, covered at delta / (2 L2): (2 L2 / K)^2 = 0.25, so that one draw is enough.
    assert dilation == pytest.approx(math.log(2001))
    wide = bounds.ilo_log_cover(replace(SETTING, K=0.601))[1]
    assert wide == pytest.approx(100 * math.log(2001))
    # A ball as wide as this is covered with fewer as a part of the l2 ball.
    widest = bounds.ilo_log_cover(replace(SETTING, K=0.01))[1]
    assert widest == pytest.approx(1000 * math.log(1 + 2 * 50 / (0.5 / 6)))


@given(st.floats(1e-3, 1e3), st.floats(1.0, 10.0), st.integers(1, 10**6))
def test_bounds_grow_with_the_set_and_shrink_with_the_accuracy(
    ball: float, more: float, p: int
) -> None:
    setting = replace(SETTING, K=ball, p=p)
    cover = sum(bounds.ilo_log_cover(setting))
    assert cover > bounds.csgm_log_cover(setting)
    for name in ("k", "p", "lipschitz1", "lipschitz2", "r1"):
        value = getattr(setting, name) * more
        larger = replace(setting, **{name: int(value) if name in "kp" else value})
        assert sum(bounds.ilo_log_cover(larger)) >= cover * (1 - 1e-12)
    for name in ("K", "delta"):
        coarser = replace(setting, **{name: getattr(setting, name) * more})
        assert sum(bounds.ilo_log_cover(coarser)) <= cover * (1 + 1e-12)


def test_a_small_ball_costs_about_what_csgm_needs_and_a_large_one_more_than_the_layer() -> None:
    """Remarks 2 and 3: ILO lies between the two."""
    csgm, layer = bounds.csgm_log_cover(SETTING), bounds.layer_log_cover(SETTING)
    tight = sum(bounds.ilo_log_cover(replace(SETTING, K=1e6)))
    loose = sum(bounds.ilo_log_cover(replace(SETTING, K=1e-2)))
    assert csgm < tight < csgm + 10 * math.log(2) + math.log(2001) + 1e-9
    assert loose > layer > tight


def test_measurements_and_error_are_the_stated_formulas() -> None:
    assert bounds.measurements_needed(7.0, 0.75, constant=2.0) == pytest.approx(2 * 7 * 16)
    assert bounds.error_bound(1.0, 0.25, 0.1, 0.4, 0.5) == pytest.approx(9 + 2 * (0.5 + 0.1 + 0.4))


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
    found = [
        bounds.stretch(DenseGaussian((3, 8, 8), 30, seed), images, [10, 30])[:, 0]
        for seed in range(400)
    ]
    for m, ratios in zip((10, 30), torch.stack(found, 1), strict=True):
        chi = scipy.stats.chi(m, scale=1 / math.sqrt(m))
        assert scipy.stats.kstest(ratios.numpy(), chi.cdf).pvalue > 1e-3


def test_the_first_rows_of_a_circulant_matrix_are_the_smaller_matrix() -> None:
    images = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    large, small = (PartialCirculant((3, 8, 8), m, seed=1) for m in (150, 40))
    nested = bounds.stretch(large, images, [40, 150])[0]
    torch.testing.assert_close(nested, bounds.stretch(small, images, [40])[0])


def test_stretches_of_a_linear_range_lie_between_the_singular_values() -> None:
    """On the range of a linear generator the least stretch is known: a singular value of A G."""
    for k, points in ((1, 4), (3, 60)):
        toy = Linear(k, 20)
        matrix = DenseGaussian((3, 8, 8), 12, seed=3)
        found = bounds.stretch(matrix, bounds.extended_range(toy, 1, 0.0, points, seed=0), [12])[0]
        product = (matrix.matrix @ (toy.second @ toy.first / 6)).double().numpy()
        values = np.linalg.svd(product, compute_uv=False)
        assert values.min() * (1 - 1e-4) <= float(found.min()) <= values.min() * 1.05
        assert values.max() * 0.95 <= float(found.max()) <= values.max() * (1 + 1e-4)


def test_points_of_the_extended_range_are_as_far_as_their_radius() -> None:
    """G2 stretches by 3, so that a vertex of the ball moves the image by 3 r2, and other points by less."""
    toy, p, r2 = Linear(4, 50), 50, 0.2 * 50

    def distances(nonzeros: int | None) -> Tensor:
        moved = bounds.extended_range(toy, 1, 0.2, 6, 0, nonzeros) - inside
        hidden = moved.flatten(1) @ toy.second / 9
        torch.testing.assert_close(hidden.abs().sum(1), torch.full((6,), r2))
        return moved.flatten(1).norm(dim=1)

    inside = bounds.extended_range(toy, 1, 0.0, 6, seed=0)
    latents = bounds.seeding.normal((4,), 0, [str(i) for i in range(6)], "theory latents")
    torch.testing.assert_close(inside.flatten(1).norm(dim=1), 6 * latents.norm(dim=1))
    vertex, sparse, dense = distances(1), distances(5), distances(None)
    torch.testing.assert_close(vertex, torch.full((6,), 3 * r2))
    assert (vertex > sparse).all() and (sparse > dense).all()
    assert (dense >= 3 * r2 / math.sqrt(p)).all()


def test_the_extended_range_of_a_split_state_of_two_tensors(tiny: TinyGenerator) -> None:
    latents = bounds.seeding.normal((1, 16), 0, ["0", "1", "2"], "theory latents")
    inside = bounds.extended_range(tiny, 2, 0.0, 3, seed=0)
    torch.testing.assert_close(inside, tiny(latents, "z"))
    outside = bounds.extended_range(tiny, 2, 0.05, 3, seed=0)
    assert 0 < float((outside - inside).abs().mean()) < 0.5


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("delta", -1.0), ("gamma", 1.0)])
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        replace(SETTING, **{name: value})


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return command(monkeypatch, "theory", *arguments)


def test_the_command_writes_tables_and_a_plot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "theory"
    keys = [f"output={out}", "counts=[20,200]", "images=8", "trials=2"]
    assert call(monkeypatch, *keys) == 0
    rows = list(csv.DictReader((out / "gamma.csv").read_text().splitlines()))
    least = {(r["matrix"], r["points"], int(r["m"])): float(r["smallest"]) for r in rows}
    for matrix in ("gaussian", "circulant"):
        for points in ("range", "extended range", "extended range, sparse"):
            assert 0 < least[matrix, points, 20] < least[matrix, points, 200] < 1
    assert (out / "gamma.png").stat().st_size > 10_000
    assert call(monkeypatch, *keys) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_run_gets_bounds_with_its_own_radii(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("ilo", "csgm"):
        task = [f"output={tmp_path / method}", "generator=tiny", f"method={method}"]
        splits = ["method.splits=[0,1,2]", "method.radii.hidden=[null,0.5,0.25]"]
        splits.append("method.free_noises=0")
        config = load_config([*task, "input=x.png", *(splits if method == "ilo" else [])])
        (tmp_path / method).mkdir()
        (tmp_path / method / "config.yaml").write_text(OmegaConf.to_yaml(config.model_dump()))
    keys = [f"output={tmp_path / 'out'}", "counts=[20]", "images=2", "trials=1", "delta=100"]
    assert call(monkeypatch, *keys, "noise=3", f"run={tmp_path / 'ilo'}") == 0
    # (2 * 3 + 100) / 0.5
    assert "within 212 of" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "bounds.csv").read_text().splitlines()))
    own = {r["search"]: (int(r["p"]), float(r["K"])) for r in rows if "run" in r["search"]}
    # 11 channels at 4 x 4 and 8 x 8; r2 is the radius times their number.
    assert own["stage 2 of the run, split 1"] == (176, pytest.approx(100 / 88, rel=1e-5))
    assert own["stage 3 of the run, split 2"] == (704, pytest.approx(100 / 176, rel=1e-5))
    (tmp_path / "bm3d").mkdir()
    denoised = load_config(["input=x.png", "output=x", "task=denoising", "method=bm3d"])
    text = OmegaConf.to_yaml(denoised.model_dump())
    (tmp_path / "bm3d" / "config.yaml").write_text(text)
    keys[0] = f"output={tmp_path / 'none'}"
    assert call(monkeypatch, *keys, f"run={tmp_path / 'bm3d'}") == 2
    assert "'bm3d', which searches no generator" in capsys.readouterr().err
    assert call(monkeypatch, *keys, f"run={tmp_path / 'csgm'}") == 2
    assert "no l1 ball" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([], "output must be given"),
        (["output=x", "gama=0.5"], "Did you mean 'gamma'"),
        (["output=x", "gamma=2"], "gamma = 2"),
        (["output=x", "split=9"], "Split 9 does not exist"),
        (["output=x", "run=nowhere"], "cannot be read as the configuration"),
        (
            ["output=x", "matrices=[dense]"],
            "error: matrices.0 = 'dense' cannot be used: give gaussian or circulant.\n",
        ),
        (["output=x", "generator=tiyn"], "Did you mean 'tiny'"),
        (["output=x", "weights=w.pt"], "tiny has no weights file, and w.pt was given"),
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
