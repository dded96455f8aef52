"""A run folder belongs to what its files hold; its own files are made again when they are damaged."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ilo_pl.config.compose import load_config
from ilo_pl.errors import ConfigurationError, Stopped
from ilo_pl.io.folder import RunFolder
from ilo_pl.runs import sources
from ilo_pl.runs.content import belongings, content
from ilo_pl.runs.record import RunRecord
from ilo_pl.weights.registry import registry
from tests.conftest import command
from tests.runs.conftest import NAMES, At, draw, files_of

Go = Callable[..., str]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_replaced_files_are_named(go: Go, folder: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    Image.open(mask).point(lambda v: v).save(mask)
    hole = Image.open(mask)
    hole.paste(0, (4, 4, 12, 12))
    hole.save(mask)
    keys = ["task=inpainting", f"operator.file={mask}"]
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        go(out, *keys, callbacks=(At(16, terminate),))
    assert list((out / "state" / "checkpoints").glob("*.ckpt"))
    # One that is done, one that is not; a third is written anew with what it held.
    draw(folder, ["a", "c"], seed=6)
    b = folder / "b.png"
    b.write_bytes(b.read_bytes())
    before = mask.read_bytes()
    hole.paste(0, (20, 20, 30, 30))
    hole.save(mask)
    with pytest.raises(ConfigurationError) as refused:
        go(out, *keys, "resume=true")
    said = str(refused.value)
    assert "input a" in said and "input c" in said and "operator.file" in said
    assert "input b" not in said and "has other content" in said
    mask.write_bytes(before)
    with pytest.raises(ConfigurationError, match="input a") as refused:
        go(out, *keys, "resume=true")
    assert "operator.file" not in str(refused.value)
    # With leave it goes on: what is done stays, what was half done begins again.
    go(out, *keys, "resume=true", "allow_changes=true")
    whole = tmp_path / "whole"
    go(whole, *keys)
    ours, theirs = files_of(out), files_of(whole)
    assert {k for k in theirs if ours[k] != theirs[k]} == {k for k in theirs if "/a." in k}
    go(out, *keys, "resume=true")


def test_a_folder_that_does_not_say_goes_on(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(out)
    before = files_of(out)
    record = json.loads((out / "state" / "run.json").read_text())
    (out / "state" / "run.json").write_text(json.dumps({k: record[k] for k in ("config", "ids")}))
    for path in (out / "state" / "units").iterdir():
        entry = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in entry.items() if k != "files"}))
    (out / "latents" / "b.safetensors").write_bytes(b"cut")
    assert go(out, "resume=true").count("searched again") == 1
    assert files_of(out) == before


def test_damaged_results_are_made_again(go: Go, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(out, "save_measurements=true")
    before = files_of(out)
    latents = out / "latents" / "a.safetensors"
    latents.write_bytes(latents.read_bytes()[:100])
    picture = out / "reconstructions" / "b.png"
    flipped = bytearray(picture.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    picture.write_bytes(flipped)
    (out / "measurements" / "c.npz").unlink()
    said = go(out, "save_measurements=true", "resume=true")
    assert said.count("searched again") == 3 and "latents/a.safetensors is damaged" in said
    assert files_of(out) == before
    for path, text in zip(
        sorted((out / "state" / "units").iterdir()),
        ('{"ids": "a"}', '{"ids": ["b"], "seconds": [1]}', "\xff"),
        strict=True,
    ):
        path.write_text(text, "latin-1")
    (out / "stages" / next(n.name for n in (out / "stages").iterdir())).write_bytes(b"")
    assert go(out, "save_measurements=true", "resume=true").count("searched again") == 3
    assert files_of(out) == before


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"config": [], "ids": []}', b'{"config": {}}',
        b'{"config": {"batch_size": "x"}, "ids": []}', b'{"config": {"batch_size": 1}, "ids": [3]}',
        b'{"config": {"batch_size": 1}, "ids": [], "content": {"a": [1, 2]}}', b"[" * 100_000,
        b'{"config": {"batch_size": ' + b"9" * 5000 + b'}, "ids": {}}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_said_to_be(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "run.json").write_bytes(text)
    with pytest.raises(ConfigurationError, match="damaged"):
        RunRecord.read(RunFolder(tmp_path))


def test_a_damaged_record_ends_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    (out / "state" / "run.json").write_text('{"config": 5')
    keys = [f"input={folder}", f"output={out}", "generator=tiny", "method=csgm", "resume=true"]
    assert command(monkeypatch, "invert", *keys) == 2
    assert "state/run.json is damaged" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("size", [1, 2])
def test_every_image_is_read_and_measured_once(
    go: Go, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    read: list[str] = []
    measured: list[int] = []
    load, measure = sources.load_image, sources.ImageFolder._measure

    def counted(path: Path) -> Any:
        read.append(path.stem)
        return load(path)

    def simulated(source: Any, ids: Any, *rest: Any) -> Any:
        measured.extend(ids)
        return measure(source, ids, *rest)

    monkeypatch.setattr(sources, "load_image", counted)
    monkeypatch.setattr(sources.ImageFolder, "_measure", simulated)
    go(tmp_path / "out", f"batch_size={size}")
    assert read == measured == NAMES
    # Of a batch with a damaged image the others are read once, too.
    read.clear()
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:200])
    go(tmp_path / "again", "batch_size=3")
    assert [read.count(name) for name in ("a", "c")] == [1, 1]


def test_registered_and_given_weights_are_known(folder: Path, tmp_path: Path) -> None:
    keys = [f"input={folder}", "output=x", "generator=mobilestylegan_ffhq"]
    config = load_config(keys)
    found = content(config, belongings(config, {}), {})
    assert found["generator.weights"] == registry()["mobilestylegan-ffhq"].sha256
