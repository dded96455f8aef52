"""The stored notebooks run from their first cell to their last, and what they show is real and small."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 400_000


@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_notebooks_run_on_the_tiny_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one kernel, which imports once; names are forgotten in between."""
    monkeypatch.setenv("ILO_PL_TINY", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    together, starts = nbformat.v4.new_notebook(), []
    for path in NOTEBOOKS:
        starts.append(len(together.cells))
        together.cells.append(nbformat.v4.new_code_cell("%reset -f"))
        cells = nbformat.read(path, 4).cells
        together.cells += [
            nbformat.v4.new_code_cell(c.source) for c in cells if c.cell_type == "code"
        ]
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(together, timeout=300, kernel_name="python3", resources=folder).execute()
    for begin, end in zip(starts, [*starts[1:], len(together.cells)], strict=True):
        shown = [output for cell in together.cells[begin:end] for output in cell.outputs]
        assert any("image/jpeg" in output.get("data", {}) for output in shown)


def test_what_is_stored_is_small_and_whole() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert path.stat().st_size < LARGEST, path.name
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1)), path.name
        outputs = [output for cell in cells for output in cell.outputs]
        assert {o.output_type for o in outputs} <= {"display_data", "stream"}, path.name
        assert all(o.name == "stdout" for o in outputs if o.output_type == "stream"), path.name
        pictures = [o for o in outputs if "image/jpeg" in o.get("data", {})]
        assert pictures, path.name
