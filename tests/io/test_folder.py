"""What is written is on the disk before anything later, and nowhere but in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ilo_pl.errors import OutputError
from ilo_pl.io.folder import RunFolder, atomic


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
