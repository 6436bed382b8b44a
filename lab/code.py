"""Which code a result was made by: one digest over every module of the library that a paper's notebook reaches.

Comments, docstrings and blank lines do not count, so that a better word does not make a result stale; any other change does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import vidistill
from vidistill.files import digest, file_digest, load_json
from vidistill.lab.runner import notebooks_dir

ROOTS = {"vidistill.lab": Path(__file__).parent, "vidistill": Path(vidistill.__file__).parent}
"""Where a package's modules lie, the longer name first."""

TELLING = ("vidistill.lab.report", "vidistill.lab.cards", "vidistill.lab.record", "vidistill.lab.runner")
"""Modules that show, judge or start a run and make no number of it: verdicts are always taken anew from the numbers."""


def code_digest(paper: str) -> str:
    """Return a digest of what makes a paper's numbers: the code of its reproduce notebook, all it imports of ours, the zoo's weights.

    Raises:
        InputError: there is no such notebook, or it is not JSON.
    """
    notebook = load_json(notebooks_dir() / "reproduce" / f"{paper}.ipynb")
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code" and not _parameters(cell)]
    found: dict[str, str] = {}
    for cell in cells:
        _follow(_imported(cell), found)
    return digest([list(filter(None, map(bare, cells))), found, _weights()])


def _parameters(cell: dict) -> bool:
    return "parameters" in cell["metadata"].get("tags", ())


def bare(source: str) -> str:
    """Return Python source without docstrings, blank lines and lines that are all comment; the same on every version of Python."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _follow(names: Iterable[str], found: dict[str, str]) -> None:
    """Add each of these modules that is ours, and those which it imports, wherever it does."""
    for name in names:
        path = _file(name)
        if path is not None and name not in found and name not in TELLING:
            found[name], imports = _module(path)
            _follow(imports, found)


@cache
def _module(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the bare source of a module and the names that it imports; read once a process."""
    source = path.read_text(encoding="utf-8")
    return bare(source), _imported(source)


def _imported(source: str) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return tuple(sorted(names))


def _file(name: str) -> Path | None:
    """Return the file of a module of ours, None for any other name."""
    for package, folder in ROOTS.items():
        if name == package or name.startswith(f"{package}."):
            path = folder.joinpath(*name[len(package) :].split(".")[1:])
            return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return None


@cache
def _weights() -> dict[str, str]:
    zoo = ROOTS["vidistill"] / "zoo"
    return {path.relative_to(zoo).as_posix(): file_digest(path) for path in sorted(zoo.rglob("*.safetensors"))}
