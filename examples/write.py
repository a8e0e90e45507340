"""Writes `examples/quickstart.ipynb` from `docs/howto/notebook.md`: prose as Markdown cells, code as code cells.

python -m examples.write [--run]     with --run, the notebook is executed and not written
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "howto" / "notebook.md"
NOTEBOOK = Path(__file__).with_name("quickstart.ipynb")


def notebook() -> nbformat.NotebookNode:
    """The page as a notebook; cell ids are numbers, so that it is always the same."""
    parts = re.split(r"^```python\n(.*?)^```\n", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    cells = [
        (new_code_cell if number % 2 else new_markdown_cell)(part.strip(), id=f"cell-{number}")
        for number, part in enumerate(parts)
        if part.strip()
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def executed(made: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells, in a temporary folder with a link to the leaderboard."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "leaderboard").symlink_to(ROOT / "leaderboard")
        NotebookClient(made, timeout=600, resources={"metadata": {"path": folder}}).execute()
    return made


if __name__ == "__main__":
    made = notebook()
    if "--run" in sys.argv:
        executed(made)
    else:
        nbformat.write(made, NOTEBOOK)
