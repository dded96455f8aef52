"""Imports point one way, from room to room and inside each (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ilo_pl

ROOT = Path(ilo_pl.__file__).parent
# A room may import from those before it, never from those behind it.
ROOMS = [
    "errors",
    "seeding",
    "spec",
    "weights",
    "io",
    "generators",
    "operators",
    "losses",
    "baselines",
    "denoisers",
    "inversion",
    "evaluation",
    "callbacks",
    "config",
    "runs",
    "cluster",
    "deepinv",
    "prepare",
    "paper",
    "app",
    "cli",
    "__main__",
]
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Yield the modules of ilo_pl that a module imports, wherever in it, in any form."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "ilo_pl")
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            source = ".".join(p for p in (base, node.module) if p)
            if source.split(".")[0] == "ilo_pl":
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield inner if inner in MODULES else source


GRAPH = {
    module: sorted(set(imports(module, ast.parse(path.read_text()))))
    for module, path in MODULES.items()
}


def room(module: str) -> int:
    return ROOMS.index(module.split(".")[1])


def backwards(graph: dict[str, list[str]]) -> list[str]:
    """Return the imports that go from a room to one behind it."""
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if module != "ilo_pl" and room(target) > room(module)
    ]


def circles(graph: dict[str, list[str]]) -> list[str]:
    """Return an import circle through each module that is in one."""
    found = []
    for start in graph:
        reached, front = set(), [start]
        while front:
            for target in graph.get(front.pop(), []):
                if target not in reached:
                    reached.add(target)
                    front.append(target)
        if start in reached:
            found.append(start)
    return found


def test_every_module_is_in_a_room() -> None:
    found = {name.split(".")[1] for name in MODULES if "." in name}
    assert found == set(ROOMS)


def test_rooms_import_from_those_before_them() -> None:
    assert sum(map(len, GRAPH.values())) > 200
    assert backwards(GRAPH) == []


def test_no_module_imports_itself_round_about() -> None:
    # The package itself names its public classes for type checkers and imports them when they are used.
    inner = {name: targets for name, targets in GRAPH.items() if name != "ilo_pl"}
    assert circles(inner) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import ilo_pl.runs.run",
        "from ilo_pl.runs import run",
        "from ..runs import run",
        "def f():\n import ilo_pl.runs.run",
    ],
)
def test_the_check_sees_every_form_of_import(statement: str) -> None:
    seen = list(imports("ilo_pl.losses.base", ast.parse(statement)))
    assert seen == ["ilo_pl.runs.run"]
    assert backwards({"ilo_pl.losses.base": seen}) == ["ilo_pl.losses.base imports ilo_pl.runs.run"]
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == ["a", "b", "c"]


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, ilo_pl, ilo_pl.inversion.module\n"
        "heavy = {'lpips', 'torchvision', 'torchmetrics.image', 'hydra', 'matplotlib', 'torch._inductor'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    baseline = subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace("ilo_pl, ilo_pl.inversion.module", "pytorch_lightning"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert loaded == baseline
