"""The switches of CUDA's arithmetic, which are global and somebody else's."""

from __future__ import annotations

import pytest
import torch

from ilo_pl.generators.precision import exact_switches, full_precision


def values() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in exact_switches()]


def test_tf32_is_off_inside_and_as_it_was_behind() -> None:
    before = values()
    wanted = [value for _, _, value in exact_switches()]
    assert before != wanted  # convolutions take TF32 unless they are told otherwise
    with full_precision(torch.device("cuda")):
        assert values() == wanted
    assert values() == before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
def test_who_uses_the_new_switches_is_not_disturbed() -> None:
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        with full_precision(torch.device("cuda")):
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = before


def test_there_is_no_autocast_inside() -> None:
    x = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16), full_precision(x.device):
        assert (x @ x).dtype == torch.float32
