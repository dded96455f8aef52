from __future__ import annotations

from typing import Any

import pytest

from ilo_pl import Radii, Reencode, Schedule, Sphere, Stage, TinyGenerator
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.lr_schedules import ramp


def test_ramp_takes_the_published_values() -> None:
    # Worked out by hand: (1 - cos(pi x)) / 2 at x = (1 - t) / 0.75, times t / 0.05 below 0.05.
    expected = {0.0: 0.0, 0.025: 0.5, 0.05: 1.0, 0.25: 1.0, 0.625: 0.5, 0.75: 0.25, 1.0: 0.0}
    for progress, factor in expected.items():
        assert ramp(progress, up=0.05, down=0.75) == pytest.approx(factor, abs=1e-12)
    assert ramp(0.0, up=0, down=0) == ramp(1.0, up=0, down=0) == 1.0


def test_phases_alternate_solving_and_reencoding() -> None:
    again = Reencode(steps=3)
    schedule = Schedule(
        stages=(
            Stage(split=0, steps=5, reencode=again),
            Stage(split=1, steps=4, rounds=2, reencode=again),
            Stage(split=3, steps=2, rounds=2, reencode=again),
        )
    )
    unrolled = [(p.kind, p.stage, p.round, p.steps) for p in schedule.phases]
    assert unrolled == [
        ("solve", 0, 0, 5),  # nothing lies before the latent: no re-encoding
        ("solve", 1, 0, 4),
        ("reencode", 1, 0, 3),
        ("solve", 1, 1, 4),
        ("reencode", 1, 1, 3),
        ("solve", 2, 0, 2),
        ("reencode", 2, 0, 3),
        ("solve", 2, 1, 2),  # nothing follows: no re-encoding
    ]
    assert schedule.total_steps == 26


def test_radii_scale_with_dimension_unless_they_are_norms() -> None:
    assert Radii(hidden=0.5).absolute("hidden", 200) == 100
    assert Radii(hidden=0.5, unit="l1").absolute("hidden", 200) == 0.5
    assert Radii(hidden=0.5).absolute("latents", 200) is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Stage(split=0, steps=-1), "steps = -1"),
        (lambda: Stage(split=0, steps=1.5), "steps = 1.5"),
        (lambda: Stage(split=0, steps=1, lr=0), "lr = 0"),
        (lambda: Stage(split=0, steps=1, lr=float("nan")), "lr = nan"),
        (lambda: Stage(split=0, steps=1, radius=1), "'radius'.\nDid you mean 'radii'"),
        (lambda: Stage(split=0, steps=1, losses={}), "losses"),
        (lambda: Radii(hidden=-0.1), "hidden = -0.1"),
        (lambda: Radii(hiden=0.1), "Did you mean 'hidden'"),
        (
            lambda: Stage(split=0, steps=1, sphere=Sphere(latents=True), radii=Radii(latents=1)),
            "both a sphere and an l1 ball for latents",
        ),
        (
            lambda: Schedule(stages=(Stage(split=1, steps=1),)).resolve(TinyGenerator()),
            "first stage is at split 1",
        ),
        (lambda: Schedule(stages=(Stage(split=0, steps=0),)), "no steps at all"),
        (
            lambda: Schedule(stages=[Stage(split=k, steps=1) for k in (0, 3, 2)]),
            r"must not decrease; got \[0, 3, 2\]",
        ),
        (
            lambda: Schedule(stages=[Stage(split=0, steps=1)], latent_space="q").resolve(
                TinyGenerator()
            ),
            "no latent space 'q'",
        ),
        (
            lambda: Schedule(stages=[Stage(split=k, steps=1) for k in (0, 7)]).resolve(
                TinyGenerator()
            ),
            "Split 7 does not exist",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(make: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()
