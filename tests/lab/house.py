"""A lab of one paper called toy, with a notebook, cards, a protocol and results of its own, whole until a test breaks one of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from vidistill.knobs import Knobs
from vidistill.lab import cards, presets, standing

CARD = {"claim": "up", "source": "Table 1", "measure": "score", "arm": "method", "control": "base", "wanted": "higher"}


def protocol_of(runs: str) -> str:
    """Return a protocol of these runs."""
    return f"""protocol = "toy-world"
version = 1
deviations = "small"
[toy]
data = "none"
model = "none"
cost = "seconds"
{runs}
[small]
data = "d"
model = "m"
command = "vidistill reproduce toy --tier small"
cost = "an hour"
[full]
data = "d"
model = "m"
command = "vidistill reproduce toy --tier full"
cost = "a week"
needs = "a GPU"
"""


class House:
    """The files.

    Args:
        folder: where they are put.
        patch: puts them in the place of the project's.
        knobs: of the paper.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, knobs: Knobs) -> None:
        self.folder = folder
        self.readme = folder / "checkout" / "README.md"
        self.notebook = folder / "checkout" / "notebooks" / "reproduce" / "toy.ipynb"
        self.notebook.parent.mkdir(parents=True)
        for name in ("cards", "results", "presets"):
            (folder / name).mkdir()
        (folder / "presets" / "toy.toml").write_text('[quick]\nabout = "small"\n')
        self.readme.write_text(f"before\n{standing.BEGIN}\nold\n{standing.END}\nafter\n")
        patch.setitem(sys.modules, "toy_paper", SimpleNamespace(KNOBS=knobs))
        patch.setattr(presets, "PAPERS", {"toy": "toy_paper"})
        patch.setattr(presets, "FOLDER", folder / "presets")
        patch.setattr(cards, "FOLDER", folder / "cards")
        patch.setattr(standing, "FOLDER", folder / "results")
        patch.setattr(standing, "TABLE", folder / "results" / "README.md")
        patch.setenv("VIDISTILL_CACHE", str(folder / "cache"))
        for module in ("code", "suite", "commands.reproduce"):
            patch.setattr(f"vidistill.lab.{module}.notebooks_dir", lambda: self.notebook.parent.parent)

    def cells(self, *sources: str, tag: str = "parameters") -> None:
        """Write the notebook; the first cell has the tag."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook.cells[0].metadata.tags = [tag]
        nbformat.write(notebook, self.notebook)

    def card(self, name: str, **changes: Any) -> Path:
        """Write a card with these entries beside the usual ones, without those that are None; return its file."""
        lines = [f"{entry} = {json.dumps(value)}" for entry, value in (CARD | changes).items() if value is not None]
        path = self.folder / "cards" / f"toy-{name}.toml"
        path.write_text("\n".join(lines))
        return path

    def protocol(self, text: str) -> None:
        """Write the protocol."""
        (self.folder / "cards" / "toy.toml").write_text(text)
