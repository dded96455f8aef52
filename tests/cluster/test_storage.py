"""Pictures elsewhere: archives, shards, stores whose errors pass."""

from __future__ import annotations

import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import fsspec
import pytest

from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.io.remote import Patience, Storage, fetched, passes
from tests.cluster.conftest import Faulty

DATA = {f"a{i}.png": bytes([i]) * (100 + i) for i in range(5)}


def shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in {**files, "a0.json": b"{}"}.items():
            member = tarfile.TarInfo(f"train/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def everything(address: str) -> dict[str, bytes]:
    storage = Storage(address)
    return {item.id: storage.picture(item).data for item in storage.items()}


def test_pictures_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    wanted = {name[:-4]: data for name, data in DATA.items()}
    plain, shards = tmp_path / "plain", tmp_path / "shards"
    plain.mkdir()
    shards.mkdir()
    for name, data in DATA.items():
        (plain / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, data in DATA.items():
            archive.writestr(f"deep/{name}", data)
    names = list(DATA)
    shard(shards / "00.tar", {n: DATA[n] for n in names[:3]})
    shard(shards / "01.tar", {n: DATA[n] for n in names[3:]})
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/pictures/{name}": data for name, data in DATA.items()})
    for address in (
        str(plain),
        str(shards),
        f"zip://::{tmp_path / 'all.zip'}",
        "memory://pictures",
        f"file://{shards}",
    ):
        assert everything(address) == wanted, address
    with fetched("memory://pictures") as folder:
        assert {p.stem: p.read_bytes() for p in folder.iterdir()} == wanted
    assert not folder.exists()
    shard(shards / "02.tar", {names[0]: b"again"})
    with pytest.raises(InputError, match="same id"):
        Storage(str(shards)).items()


def test_errors_that_pass_are_waited_out_and_others_are_not() -> None:
    tried: list[int] = []

    def act(errors: list[Exception]) -> str:
        tried.append(1)
        if errors:
            raise errors.pop(0)
        return "done"

    hurried = Patience(tries=3, first=0.001)
    two: list[Exception] = [OSError(5, "io"), TimeoutError()]
    assert hurried(lambda: act(two)) == "done"
    assert len(tried) == 3
    final: list[Exception] = [FileNotFoundError()] * 5
    busy: list[Exception] = [OSError(16, "busy")] * 5
    for errors, times in ((final, 1), (busy, 3)):
        tried.clear()
        with pytest.raises(OSError):  # noqa: PT011  # of two kinds
            hurried(partial(act, errors))
        assert len(tried) == times
    assert not passes(KeyError("a slip of ours"))


def test_what_cannot_be_reached_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        Storage("nowhere://a/b")
    with pytest.raises(InputError, match="empty"):
        Storage("memory://empty").items()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError):
        Storage(str(blocked)).write("results/a.parquet", b"")


def test_a_store_that_refuses_half_of_the_requests(s3: Faulty) -> None:
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    fs.pipe({f"bucket/in/{name}": data for name, data in DATA.items()})
    s3.share = 0.5
    hurried = Patience(tries=40, first=0.01, most=0.02)
    storage = Storage("s3://bucket/in", hurried)
    found = {i.id: storage.picture(i).data for i in storage.items()}
    assert found == {name[:-4]: data for name, data in DATA.items()}
    output = Storage("s3://bucket/out", hurried)
    output.write("results/part.parquet", b"x" * 200)
    assert output.sizes("results") == {"part.parquet": 200}
    assert output.sizes("nothing") == {}
    assert s3.refused >= 3
    with pytest.raises(InputError, match="cannot be read"):
        storage.read("bucket/in/gone.png")
