"""Checkpoints that any Lightning reads, and that no cut in their writing loses."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ilo_pl.callbacks.checkpoint_io import SafeCheckpointIO, good
from ilo_pl.errors import InputError


def content(number: int) -> dict[str, Any]:
    return {"state_dict": {"a": torch.full((5,), float(number))}, "epoch": number}


def number_in(path: Path) -> int:
    return int(SafeCheckpointIO().load_checkpoint(path)["epoch"])


def test_lightning_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    SafeCheckpointIO().save_checkpoint(content(3), path)
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 3
    digest = hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()
    assert (tmp_path / "x.ckpt.blake2b").read_text() == f"{digest}\n"
    SafeCheckpointIO().remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_files_of_before_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content(1), buffer)
    data = buffer.getvalue()
    digest = hashlib.blake2b(data, digest_size=32).digest()
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"ilo_pl.ckpt/1\n" + digest + data)
    assert number_in(path) == 1
    SafeCheckpointIO().save_checkpoint(content(2), path)
    assert [number_in(p) for p in good(path)] == [2, 1]
    # As Lightning writes it, without a digest; the next one comes over it.
    bare = tmp_path / "bare.ckpt"
    torch.save(content(1), bare)
    SafeCheckpointIO().save_checkpoint(content(2), bare)
    assert [number_in(p) for p in good(bare)] == [2, 1]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    SafeCheckpointIO().save_checkpoint(content(1), path)
    data = bytearray(path.read_bytes())
    for place in (0, 60, len(data) // 2, len(data) - 1):
        flipped = data.copy()
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="damaged"):
            SafeCheckpointIO().load_checkpoint(path)
    torch.save([1, 2], path)
    (tmp_path / "x.ckpt.blake2b").unlink()
    with pytest.raises(InputError, match="not a checkpoint of Lightning"):
        SafeCheckpointIO().load_checkpoint(path)


class Cut(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_kill_in_the_writing_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    path = tmp_path / "x.ckpt"
    for number in (1, 2):
        SafeCheckpointIO().save_checkpoint(content(number), path)
    rename, calls = os.replace, 0

    def killed(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Cut
        rename(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Cut):
            SafeCheckpointIO().save_checkpoint(content(3), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(number_in(p) for p in good(path)) == 2
    SafeCheckpointIO().save_checkpoint(content(4), path)
    assert [number_in(p) for p in good(path)] == [4, 2]
