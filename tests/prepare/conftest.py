"""What tests of ``ilo-pl prepare`` share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import command

Prepare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = command(monkeypatch, "prepare", *arguments)
        out = capsys.readouterr()
        return status, out.out, out.err

    return call
