"""Code blocks of the README and of docs/*.md, as a reader would copy them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# What a line of a shell begins with.
PROGRAMS = (
    "ilo-pl", "make", "pip", "python", "mkdir", "tensorboard", "mlflow", "wandb", "torchrun", "#!",
    "ILO_PL",
)  # fmt: skip
PYTHON = ("import ", "from ", "def ", "class ")


@dataclass(frozen=True)
class Block:
    """A block: its page, the line that it begins at, what it is and its text."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command of a shell block, comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks() -> list[Block]:
    """Return all blocks of all pages."""
    found = []
    for page in PAGES:
        for token in MarkdownIt().enable("table").parse(page.read_text("utf-8")):
            if token.type not in ("fence", "code_block") or token.info.startswith("{"):
                continue
            assert token.map is not None
            name = str(page.relative_to(ROOT))
            found.append(
                Block(name, token.map[0] + 1, _kind(token.info, token.content), token.content)
            )
    return found


def _kind(info: str, text: str) -> str:
    if info:
        return info
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith(PROGRAMS):
        return "shell"
    return "python" if first.startswith(PYTHON) else "text"
