"""Freed memory stays in the process, so that asking again costs no page fault."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from ilo_pl.inversion.allocator import keep_freed_memory
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # until small allocations have found their places between the large ones
    torch.ones(8 * 2**20)
before = faults()
for _ in range(3):
    torch.ones(8 * 2**20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_tensors_come_back_without_page_faults() -> None:
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True
            ).stdout
        )
        for mode in ("leave", "keep")
    ]
    assert counts[0] > 10_000
    assert counts[1] < 100
