"""What is written is on the disk before anything later, and nowhere but in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from ilo_pl.config.compose import load_config
from ilo_pl.errors import IloError, OutputError
from ilo_pl.io.folder import RunFolder, atomic
from ilo_pl.runs.run import run


def test_content_and_name_are_on_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(f"sync {os.path.relpath(os.readlink(f'/proc/self/fd/{handle}'), tmp_path)}")
        fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    RunFolder(tmp_path / "run").write_text("state/x.json", "1")
    part = f"sync run/state/.x.json.{os.getpid()}.part"
    assert done == ["sync .", "sync run", part, "rename", "sync run/state"]


def test_file_systems_that_cannot_sync_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    number = 22  # EINVAL
    assert RunFolder(tmp_path).write_text("a", "1").read_text() == "1"
    number = 5  # EIO: the disk is broken
    with pytest.raises(OutputError, match="could not be written"):
        RunFolder(tmp_path).write_text("b", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("link", ["log", "log/events.jsonl"])
def test_nothing_is_written_through_a_link_within_a_run_folder(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "events.jsonl").write_text("mine\n")
    path = tmp_path / "run" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside if link == "log" else outside / "events.jsonl")
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(OutputError, match="is a symbolic link"):
        folder.write_text("log/events.jsonl", "theirs")
    with pytest.raises(OutputError, match="is a symbolic link"):
        folder.inside("log/events.jsonl")
    assert (outside / "events.jsonl").read_text() == "mine\n"
    assert len(list(outside.iterdir())) == 1


def test_the_folder_itself_may_be_a_link_and_a_planted_part_is_none(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "disk" / f".a.{os.getpid()}.part").symlink_to(tmp_path / "victim")
    RunFolder(tmp_path / "run").write_text("a", "1")
    assert (tmp_path / "disk" / "a").read_text() == "1"
    assert (tmp_path / "victim").read_text() == "mine"
    with pytest.raises(OutputError), atomic(tmp_path / "victim" / "x"):
        raise AssertionError("not reached")


@pytest.mark.parametrize("link", ["log", "state/checkpoints", "state/locks", "reconstructions"])
def test_a_strangers_folder_is_not_gone_on_with_outside(tmp_path: Path, link: str) -> None:
    Image.new("RGB", (32, 32), (90, 120, 150)).save(tmp_path / "x.png")
    keys = ["generator=tiny", "method.splits=[0]", "method.steps=2", "method.free_noises=0"]
    keys += ["task=inversion", f"input={tmp_path}/x.png", f"output={tmp_path}/out", "logger=csv"]
    run(load_config(keys), Console(quiet=True))
    (tmp_path / "out" / "state" / "units" / "00000.json").unlink()
    (tmp_path / "outside").mkdir()
    path = tmp_path / "out" / link
    if path.exists():
        path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "outside" / ("file" if link == "state/locks" else ""))
    with pytest.raises(IloError, match="is a symbolic link"):
        run(load_config([*keys, "resume=true"]), Console(quiet=True))
    assert list((tmp_path / "outside").iterdir()) == []
