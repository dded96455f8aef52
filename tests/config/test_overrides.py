"""``key=value`` as people type it, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ilo_pl.config.compose import load_config
from ilo_pl.config.overrides import read_overrides, value_text
from ilo_pl.config.run import RUN_PATHS
from ilo_pl.errors import ConfigurationError
from ilo_pl.paper.sweep import make_plan
from tests.conftest import command

# Each is something else to YAML or to Hydra.
NAMES = ["2024_07", "007", "1e3", "1.50", "true", "inf", "0x10", "-1", "1_000.png"]
HYDRA = ("hydra", "sweep", "token", "omegaconf", "Traceback")


@pytest.mark.parametrize("name", NAMES)
def test_a_path_keeps_its_text(name: str) -> None:
    keys = ["input", "output", "reference", "generator.weights"]
    made = load_config(
        [*(f"{key}={name}" for key in keys), "task=inpainting", f"operator.file={name}"]
    )
    assert [made.input, made.output, made.reference, made.generator.weights] == [name] * 4
    assert made.model_dump()["operator"]["file"] == name
    parts = f"operator.parts=[{{name: mask, file: {name}}}]"
    composed = load_config(
        ["input=a", "output=b", "task=deblurring", "operator=composition", parts]
    )
    assert composed.model_dump()["operator"]["parts"][0]["file"] == name
    assert {"operator.file", "operator.weights", "operator.parts.file"} <= RUN_PATHS
    guided = ["task=ood_generation", "operator.target=1", f"operator.weights={name}", "output=b"]
    assert load_config(guided).model_dump()["operator"]["weights"] == name


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_an_experiment_keep_their_text(name: str) -> None:
    few = ["methods=[csgm]", "levels=[0.2]", "generator=tiny"]
    plan = make_plan(
        "figure2_inpainting", [f"output={name}", f"input={name}", f"images=[{name}]", *few]
    )
    assert (plan.output, plan.input, plan.images) == (Path(name), Path(name), (name,))
    assert plan.runs[0].config.output == f"{name}/runs/csgm-0.2"


@pytest.mark.parametrize("typed", ["key=value", "option"])
def test_a_list_of_paths_keeps_its_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "key=value": ["inputs=[007,2024_07]", "output=1e3"],
        "option": ["--inputs", "007", "--inputs", "2024_07", "--output", "1e3"],
    }
    for name in ("007", "2024_07"):
        Path(name).mkdir()
    assert command(monkeypatch, "prepare", "blend", *given[typed]) == 2
    assert "007 holds no image" in capsys.readouterr().err


def test_null_is_no_path_and_quotes_make_it_one() -> None:
    base = ["input=a", "output=b"]
    assert load_config([*base, "reference=null"]).reference is None
    assert load_config([*base, "reference='null'"]).reference == "null"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("method=ilo,csgm", "ilo-pl experiment compares methods"),
        ("seed=range(1,4)", "once for each value"),
        ("seed=choice(1,2)", "once for each value"),
        ("seed=1,2", "once for each value"),
        ("input=a,b.png", "\"input='a,b.png'\""),
        ("input=photo (1).png", "\"input='photo (1).png'\""),
        ("input=it's.png", r"it\'s.png"),
        ("operator.fraction=interval(0,1)", "once for each value"),
        ("method.losses=[]", "has keys of its own: mse"),
        ("seed@x=3", "not of the form key=value"),
        ("input=a\nb.png", "cannot be written"),
        ("input=\udcff.png", "UTF-8"),
        (f"seed={'[' * 5000}", "5000 deep"),
        (f"input={'x' * 20_000}", "at most 10000"),
        ("input=${output}", "cannot be resolved"),
    ],
)
def test_what_a_run_has_one_of(key: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(["input=a", "output=${input}", key])
    assert says in str(caught.value)
    assert not any(word.lower() in str(caught.value).lower() for word in HYDRA)


@pytest.mark.parametrize(
    "name", ["a,b.png", "photo (1).png", "it's.png", r"a\b\'c", "[x] {y}", "null", "1"]
)
def test_what_a_message_says_to_type_is_understood(name: str) -> None:
    (read,) = read_overrides([f"input={value_text(name)}"])
    assert read.value == name
    assert load_config(["output=b", read.text]).input == name


def test_plus_sets_a_key_that_is_there_too() -> None:
    made = load_config(["input=a", "output=b", "+seed=3", "+method.losses.mse=2"])
    assert made.seed == 3
    assert made.schedule.stages[0].losses["mse"] == 2


def test_values_survive_being_written() -> None:
    """Against YAML's own reading of what is written."""
    value = {"a": [1, 2.5, "x y", None, True], "b": {"c": "1"}}
    (read,) = read_overrides([f"key={value_text(value)}"])
    assert read.value == value == OmegaConf.to_container(OmegaConf.create(value))
