"""``notebooks/rendered``: a small executed copy of each notebook, for readers on the web.

source --run_notebook, without a screen--> executed --web_copy--> copy that says of which source it was made
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidistill.errors import InputError, nearest
from vidistill.files import digest, write_atomic
from vidistill.lab.camera import Camera, find_browser
from vidistill.lab.runner import notebooks_dir, parameters_of, run_notebook
from vidistill.lab.web_copy import web_copy
from vidistill.types import Progress, silent

START = "00_start_here.ipynb"
ROOMS = ("learn", "explore", "reproduce")
LIMIT = 1_000_000
"""Bytes that a copy stays below: viewers on the web refuse large ones."""


def sources() -> list[str]:
    """Return the notebooks that have a copy, as paths below the folder of notebooks."""
    root = notebooks_dir()
    return [START, *(path.relative_to(root).as_posix() for room in ROOMS for path in sorted((root / room).glob("*.ipynb")))]


def choose_sources(names: Sequence[str]) -> list[str]:
    """Return the notebooks that are meant by ``names``: ``learn/gvd``, with or without ``.ipynb``, or a room; all where none is named.

    Raises:
        InputError: a name that means none; the line names the nearest one.
    """
    known = sources()
    found: list[str] = []
    for name in names:
        meant = [path for path in known if name.rstrip("/") in (path, path.removesuffix(".ipynb"), path.partition("/")[0])]
        if not meant:
            raise InputError(f"no notebook {name!r}: {nearest(name, [*ROOMS, *(path.removesuffix('.ipynb') for path in known)])}")
        found += [path for path in meant if path not in found]
    return found or known


def settings(name: str) -> dict[str, Any]:
    """Return the parameters of a copy: no live controls; of a reproduction its quick form, which the paper's protocol gives."""
    room, _, file = name.rpartition("/")
    if room == "reproduce":
        from vidistill.lab.cards import load_protocol

        return load_protocol(file.removesuffix(".ipynb")).parameters("main", quick=True)
    return {"live": False} if "live" in parameters_of(notebooks_dir() / name) else {}


def source_digest(name: str) -> str:
    """Return what a copy is made of as a digest: the cells of its source, and the parameters it is run with."""
    import nbformat

    notebook = nbformat.read(notebooks_dir() / name, as_version=4)
    return digest({"cells": [[cell.cell_type, cell.source] for cell in notebook.cells], "parameters": settings(name)})


def render(name: str, folder: Path, progress: Progress = silent) -> tuple[Path, int]:
    """Execute a notebook and write its copy to ``folder / name``; return where it lies and its length in bytes.

    Args:
        name: one of :func:`sources`.
        folder: usually ``notebooks/rendered``.
        progress: called with the notebook's name, cells done, cells.

    Raises:
        InputError: there is no browser, or the copy is not below ``LIMIT`` bytes; an older copy stays as it is then.
        RunFailed: see :func:`vidistill.lab.runner.run_notebook`.
    """
    import nbformat

    find_browser()  # before minutes are spent
    source, values = notebooks_dir() / name, settings(name)
    with tempfile.TemporaryDirectory(prefix="vidistill-render-") as place:
        given = values | ({"out": str(Path(place, "out"))} if "out" in parameters_of(source) else {})
        done = run_notebook(
            source, Path(place, "copy.ipynb"), given, threads=1, progress=lambda stage, at, total: progress(name, at, total)
        )
        notebook = nbformat.read(done["output"], as_version=4)
    with Camera() as camera:
        web_copy(notebook, camera, {place: "runs"})
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(_heading(name), id="rendered"))
    notebook.metadata["vidistill"] = {"source": name, "digest": source_digest(name), "parameters": values}
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if (size := len(text.encode())) >= LIMIT:
        raise InputError(f"the copy of {name} has {size:,} bytes, {LIMIT:,} is the limit; {_largest(notebook)}: show less there")
    target = folder / name
    return target, write_atomic(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _heading(name: str) -> str:
    up = "../" * (name.count("/") + 1)
    words = f"*An executed copy of [`{name}`]({up}{name}), made by `vidistill render {name.removesuffix('.ipynb')}`: nothing here is live."
    if name.startswith("reproduce/"):
        words += (
            f" It is the shortest form, which shows how claims are judged and settles none; [what counts]({up}../lab/results/README.md)."
        )
    return f"{words}*"


def _largest(notebook: Any) -> str:
    """Return which output of a notebook is the largest, in words."""
    sizes = [
        (len(str(value)), f"cell {index + 1}, {kind}")
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", ())
        for kind, value in output.get("data", {"stream": output.get("text")}).items()
    ]
    size, where = max(sizes, default=(0, "no output"))
    return f"the largest output is {where}, {size:,} characters"
