"""Imports point one way (docs/architecture.md), and importing the package costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import ilo_pl

ROOT = Path(ilo_pl.__file__).parent
# A module may import from its own row and from the rows above it.
ROWS = [
    ["errors", "rng", "safeguard"],
    ["specs", "overrides", "changes", "trainer_specs"],
    ["generators", "operators", "constraints"],
    ["safe_pickle"],
    ["classifiers"],
    ["losses", "theory"],
    ["schedule", "rates", "columns"],
    ["point"],
    ["io", "latents", "measurements", "tables"],
    ["video"],
    ["prepare"],
    ["task"],
    ["objective"],
    ["stage"],
    ["beginning", "walk", "acceleration", "allocator"],
    ["reconstruction"],
    ["strategies", "checkpointing", "positions", "inversion", "callbacks"],
    ["measuring"],
    ["noise"],
    ["data", "classical"],
    ["groups"],
    ["config"],
    ["metrics"],
    ["report"],
    ["guidance"],
    ["trainers", "ledger"],
    ["sequence", "memory", "search"],
    ["assembly"],
    ["runner"],
    ["theory_report"],
    ["figures", "trace"],
    ["plan"],
    ["demo", "experiment", "cli"],
    ["__main__"],
]


def row(module: str) -> int:
    return next(i for i, names in enumerate(ROWS) if module in names)


def test_imports_point_one_way() -> None:
    seen = 0
    for path in sorted(ROOT.rglob("*.py")):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ilo_pl"):
                parts = (node.module or "").split(".")
                targets = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
                for target in targets:
                    seen += 1
                    assert row(target) <= row(own), f"{path} imports {target}, which is above it"
    assert seen > 50


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, ilo_pl, ilo_pl.inversion\n"
        "heavy = {'lpips', 'torchvision', 'torchmetrics.image', 'hydra', 'matplotlib', 'torch._inductor'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    baseline = subprocess.run(
        [sys.executable, "-c", code.replace("ilo_pl, ilo_pl.inversion", "pytorch_lightning")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert loaded == baseline
