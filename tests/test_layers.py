"""The house stands on floors: a room may import its own floor's ground and the floors below, never sideways or up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors"},
    {"types", "knobs", "rng", "files", "hub", "schedule", "shipped", "weights"},
    {"data", "codec", "select", "compress", "guide", "sample", "student", "measure"},
    {"distill", "zoo"},
    {"papers"},
    {"lab"},
    {"widgets"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
SIDEWAYS = {
    ("files", "types"),
    ("types", "files"),
    ("weights", "files"),
    ("sample", "codec"),
    ("sample", "guide"),
    ("measure", "data"),
}  # neighbours that may meet: none of them imports back
NEVER_IN_SRC = {"panel", "papermill", "matplotlib", "typer", "rich", "plotly", "ipywidgets", "jupyterlab", "bokeh"}
SOURCES = sorted([*(ROOT / "src/vidistill").rglob("*.py"), *(ROOT / "lab").rglob("*.py"), *(ROOT / "widgets").rglob("*.py")])


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "src/vidistill") if (ROOT / "src") in path.parents else path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_allowed(room: str, other: str) -> bool:
    return room == other or FLOOR[other] < FLOOR[room] or (room, other) in SIDEWAYS


def test_the_rule_itself_can_fail():
    assert not is_allowed("data", "lab")
    assert not is_allowed("select", "compress")
    assert is_allowed("papers", "data")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no floor: add it to FLOORS and to the architecture"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "vidistill" and len(parts) > 1 and parts[1] in FLOOR:
            assert is_allowed(room, parts[1]), f"{path.relative_to(ROOT)} ({room}) must not import {name}"
        if (ROOT / "src") in path.parents:
            assert parts[0] not in NEVER_IN_SRC, f"{path.relative_to(ROOT)}: {parts[0]} belongs to lab or widgets"
        assert parts[0] != "panel" or room == "widgets", f"{path.relative_to(ROOT)}: only widgets speak panel"


def test_a_paper_is_one_short_file():
    for path in (ROOT / "src/vidistill/papers").glob("[a-z]*.py"):
        assert len(path.read_text().splitlines()) <= 150, f"{path.name} is over 150 lines"


def test_import_is_light():
    """``import vidistill`` loads none of the heavy libraries, and neither does building the command line."""
    heavy = ["torch", "diffusers", "transformers", "panel", "papermill", "sklearn", "faiss"]
    code = f"import sys, vidistill, vidistill.lab.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
