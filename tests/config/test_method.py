"""Methods as columns of the engine's own specifications."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ilo_pl import load_method
from ilo_pl.config.choices import config_dir
from ilo_pl.config.method import FollowFrames, SearchMethod
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.schedule import Schedule, Stage


def keys(spec: type[BaseModel]) -> dict[str, Any]:
    """Return the keys of a specification with their defaults, nested ones too."""
    found: dict[str, Any] = {}
    for name, field in spec.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found[name] = default.model_dump() if isinstance(default, BaseModel) else default
    return found


def test_the_columns_are_the_keys_of_stage_and_schedule() -> None:
    """Every key once more, with the same default; and the file that explains them has no other."""
    engine = {**keys(Stage), **keys(Schedule)}
    engine = {
        k: v
        for k, v in engine.items()
        if k not in ("split", "stages", "solver", "proximal", "sampling")
    }
    own = ("name", "splits", "deviation", "posterior")  # it makes stages of its own
    method = {k: v for k, v in keys(SearchMethod).items() if k not in own}
    assert method == engine
    base = yaml.safe_load((config_dir() / "method" / "_base.yaml").read_text())
    assert set(base) == set(SearchMethod.model_fields)
    for key, value in method.items():
        if key not in ("steps", "losses"):
            assert base[key] == value
    frames = yaml.safe_load((config_dir() / "follow" / "frames.yaml").read_text())
    assert set(frames) == set(FollowFrames.model_fields)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"steps": [1, -2, 3, 4]}, "steps.1 = -2 cannot be used: give a number greater than or equal to 0."),
        ({"steps": "x"}, "steps = 'x' cannot be used: give a whole number."),
        ({"lr": [1, 2]}, r"method.lr = \[1.0, 2.0\] has 2 values for 4 stages"),
        ({"stepz": 3}, "There is no key 'stepz'.\nDid you mean 'steps'"),
        ({"radii": {"hiden": 1}}, "There is no key 'radii.hiden'.\nDid you mean 'hidden'"),
        ({"radii": 3}, "radii = 3 cannot be used: give keys in braces."),
        ({"ramp_up": [0, 0, 0, 2]}, "ramp_up = 2.0"),
        ({"losses": {"mse": [1, 1, 1, -1]}}, "losses.mse: -1 is no weight"),
        ({"sna": "loud"}, "sna = 'loud' cannot be used: give a number or measured."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_column(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_method("ilo", **columns)


def test_an_error_has_the_whole_path_to_its_key() -> None:
    whole = {"output": "b", "task": {"name": "x"}, "generator": {"name": "tiny"}, "trainer": {}}
    measured = {"operator": {"name": "identity"}, "noise": {"name": "none"}}
    method = {"name": "m", "splits": [0], "steps": 1, "radii": {"hidden": "far"}, "carry_skipp": 1}
    with pytest.raises(ConfigurationError) as caught:
        RunConfig(**whole, **measured, method=method, follow={"name": "frame"})
    assert str(caught.value).splitlines() == [
        "method.radii.hidden = 'far' cannot be used: give a number.",
        "There is no key 'method.carry_skipp'.",
        "follow.name = 'frame' cannot be used: give none or frames.",
        "Did you mean 'carry_skip'?",
    ]


def test_a_million_rounds_are_counted_at_once() -> None:
    """Their steps, against the phases themselves; and the count takes no longer for more of them."""
    for splits in ([0], [0, 2], [0, 2, 2, 3], [0, 2, -1]):
        for rounds in (1, 3):
            schedule = load_method(
                "csgm", splits=splits, rounds=rounds, steps=5, reencode={"steps": 7}
            )
            assert schedule.total_steps == sum(phase.steps for phase in schedule.phases)
    many = {"splits": [0, 2], "rounds": 10**6, "steps": 1, "reencode": {"steps": 1}}
    started = time.monotonic()
    assert load_method("csgm", **many).total_steps == 3 * 10**6 - 1
    assert time.monotonic() - started < 2
