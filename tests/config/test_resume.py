"""Which runs are the same one: paths however they are written, keys that are new, a folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from ilo_pl import TinyGenerator
from ilo_pl.config.compose import load_config
from ilo_pl.config.differences import changes
from ilo_pl.config.saved import load_run_config
from ilo_pl.errors import ConfigurationError
from ilo_pl.io.images import to_bytes
from tests.conftest import command

SHORT = ["generator=tiny", "method=csgm", "method.steps=2", "method.free_noises=4"]


@pytest.fixture
def place(tmp_path: Path, tiny: TinyGenerator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos in ``in2``, reached by a link too, and a mask."""
    (tmp_path / "in2").mkdir()
    image = tiny(torch.randn(1, 16, generator=torch.Generator().manual_seed(5)))[0]
    Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(tmp_path / "in2" / "ann.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "mask.png")
    (tmp_path / "link").symlink_to("in2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dumped(*keys: str) -> dict[str, Any]:
    return load_config(["output=out", *keys]).model_dump(mode="json")


def test_a_path_is_the_same_however_it_is_written(place: Path) -> None:
    before = dumped("input=in2", "task=inpainting", "operator.file=mask.png")
    for form in ("in2/", "./in2", "in2/../in2", "link", str(place / "in2")):
        now = dumped(f"input={form}", "task=inpainting", f"operator.file={place}/in2/../mask.png")
        assert changes(before, now) == []
    other = dumped("input=in3", "task=inpainting", "operator.file=mask2.png")
    assert changes(before, other) == [
        "input = 'in2' before, 'in3' now",
        "operator.file = 'mask.png' before, 'mask2.png' now",
    ]
    parts = ["input=in2", "task=deblurring", "operator=composition"]
    one, same, another = (
        dumped(*parts, f"operator.parts=[{{name: mask, file: {file}}}]")
        for file in ("mask.png", "./mask.png", "mask2.png")
    )
    assert changes(one, same) == []
    assert len(changes(one, another)) == 1


@pytest.mark.parametrize(
    "key",
    [
        "compile",
        "save_measurements",
        "follow",
        "logger",
        "generator.seed",
        "operator.colour",
        "trainer.precision",
        "method.judge",
        "method.radii.unit",
        "method.reencode",
    ],
)
def test_a_key_that_is_newer_than_the_run_has_its_default(key: str) -> None:
    now = dumped("input=a")
    before = json.loads(json.dumps(now))
    *groups, last = key.split(".")
    node = before
    for group in groups:
        node = node[group]
    del node[last]
    assert changes(before, now) == []
    # A run that asks for something else there is another one.
    if key == "compile":
        assert changes(before, dumped("input=a", "compile=false")) == [
            "compile = 'auto' before, False now"
        ]


def test_a_column_is_the_same_in_an_old_folder() -> None:
    """Method and follow were stored as they were typed: whole numbers, lists."""
    now = dumped("input=a", "follow=frames", "method.lr=[1,1,1,1]", "method.sna=0")
    before = json.loads(json.dumps(now))
    assert before["method"]["lr"] == [1.0] * 4
    before["method"] |= {"lr": [1, 1, 1, 1], "sna": 0, "rounds": 1}
    before["follow"]["radii"]["hidden"] = 0.2
    assert changes(before, now) == []


def test_a_folder_alone_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["input=in2", "output=out", "seed=3", *SHORT]
    assert command(monkeypatch, "invert", *keys) == 0
    lost = place / "out" / "reconstructions" / "ann.png"
    before = lost.read_bytes()
    for again in (
        ["output=out", "resume=true"],
        ["output=./out/", "resume=true", "logger=none", "trainer.checkpoint_steps=9"],
        ["input=./in2/", "output=out", "resume=true", "seed=3", *SHORT],
    ):
        lost.unlink()
        assert command(monkeypatch, "invert", *again) == 0, capsys.readouterr().err
        assert lost.read_bytes() == before
    assert load_run_config(place / "out").seed == 3
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    lost.unlink()
    assert command(monkeypatch, "invert", "output=../out", "resume=true") == 0
    assert lost.read_bytes() == before
    monkeypatch.chdir(place)
    assert command(monkeypatch, "invert", "output=out", "resume=true", "seed=4") == 2
    assert "With output= and resume=true alone" in capsys.readouterr().err
    assert command(monkeypatch, "invert", "output=nothing", "resume=true") == 2
    assert not (place / "nothing").exists()


def test_what_may_be_otherwise_is_taken_from_the_command(place: Path) -> None:
    made = load_config(["input=in2", "output=out", "trainer.devices=1", "seed=3", *SHORT])
    record = {"config": made.model_dump(mode="json"), "ids": ["ann"]}
    (place / "out" / "state").mkdir(parents=True)
    # A run that was stopped in its first moments has no config.yaml yet.
    (place / "out" / "state" / "run.json").write_text(json.dumps(record))
    more = ["trainer.devices=2", "logger=none", "allow_changes=true", "reference=mask.png"]
    went_on = load_config(["output=out", "resume=true", *more])
    assert went_on.model_dump() == {
        **made.model_dump(),
        "resume": True,
        "allow_changes": True,
        "reference": "mask.png",
        "trainer": {**made.trainer.model_dump(), "devices": 2},
        "logger": {**made.logger.model_dump(), "name": "none"},
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [1]\nb: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", "more than 10 aliases"),
        ("a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: &e [*d,*d]\nf: [*e,*e,*e]", "aliases"),
        ("a: " + "[" * 5000, "cannot be read as the configuration"),
        ("a: " + "{b: " * 5000, "more than 20 levels deep"),
        ("a: 1\n" * 20_000, "more than 65536 bytes"),
        ("a: \x00", "cannot be read as the configuration"),
        ("a: &a {b: *a}", "cannot be read as the configuration"),
        ("!!python/object/apply:os.mkdir [evil]", "cannot be read as the configuration"),
        ("- 1", "is not the configuration"),
        ("a: 1", "There is no key 'a'"),
        ("", "'output' is missing"),
    ],
)  # fmt: skip
def test_a_strangers_configuration(place: Path, text: str, says: str) -> None:
    (place / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        load_run_config(place)
    assert not (place / "evil").exists()


def test_numbers_that_no_disk_writes_out_are_named(place: Path) -> None:
    made = dumped("input=a")
    for key, value, says in (
        ("seed", "0x" + "f" * 20_000, "seed = a number of thousands of digits"),
        ("seed", ".inf", "seed = inf"),
        ("batch_size", "1" + "0" * 400, "batch_size"),
    ):
        text = yaml.safe_dump({k: v for k, v in made.items() if k != key}) + f"{key}: {value}\n"
        (place / "config.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=says) as caught:
            load_run_config(place)
        assert len(str(caught.value)) < 1000
