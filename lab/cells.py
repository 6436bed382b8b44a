"""A cell of a sweep: one point of the grid with one seed, run as one notebook of its own, kept in a folder that is named by its hash.

A cell is finished when its folder holds ``record.json`` and every file that this lists is byte for byte the one that was written: the
record is written last. A cell that was cut off has none, and is made again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidistill.errors import InputError
from vidistill.files import load_json, write_atomic
from vidistill.knobs import Value
from vidistill.lab.grid import told
from vidistill.lab.record import verify_record
from vidistill.lab.runner import RunFailed, run_notebook
from vidistill.types import Progress, silent


@dataclass(frozen=True)
class Cell:
    """One point of a grid with one seed.

    Attributes:
        paper: whose knobs are turned.
        turned: the knobs of the grid and their values here.
        seed: of the run.
        parameters: what its notebook gets; where it writes to is not among them.
        hash: of everything that its result depends on.
    """

    paper: str
    turned: dict[str, Value]
    seed: int
    parameters: dict[str, Any]
    hash: str

    @property
    def name(self) -> str:
        """What it is called: ``"rank_ratio=0.5, seed 3"``."""
        return f"{point_name(self.turned)}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell, by value, so that it can come from another machine.

    Attributes:
        files: name in the cell's folder -> bytes; of a failed cell what ran, if anything did.
        error: why there is no result, one line; "" where there is one.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    error: str = ""


def point_name(turned: Mapping[str, Value]) -> str:
    """Return a point of a grid in words: ``"rank_ratio=0.5, selector=dpp"``."""
    return ", ".join(f"{knob}={told(value)}" for knob, value in turned.items())


def run_cell(cell: Cell, notebook: str | Path, progress: Progress = silent) -> Outcome:
    """Run a cell's notebook in a folder that is gone afterwards, with one thread, and return what is kept of it.

    One thread wherever it runs: with another number the last digits would be others.

    Args:
        notebook: takes the cell's ``parameters`` and ``out``, where it writes ``record.json`` with the files that are kept.
        progress: see :func:`vidistill.lab.runner.run_notebook`; raise in it to stop the kernel.

    Raises:
        InputError: the notebook is not fit to run at all.
    """
    with tempfile.TemporaryDirectory(prefix="vidistill-cell-") as place:
        work = Path(place)
        executed = work / f"{cell.paper}.ipynb"
        failed = executed.with_suffix(".failed.ipynb")
        try:
            run_notebook(notebook, executed, {**cell.parameters, "out": place}, threads=1, progress=progress)
            kept = [*verify_record(work)["outputs"], executed.name, "record.json"]
        except RunFailed as error:
            ran = {failed.name: failed.read_bytes()} if failed.is_file() else {}
            return Outcome(ran, str(error).removesuffix(f"; what ran is in {failed}"))
        except InputError as error:
            if not executed.is_file():
                raise
            return Outcome({failed.name: executed.read_bytes()}, f"{Path(notebook).name} left no sound record: {error}")
        return Outcome({name: (work / name).read_bytes() for name in kept})


def folder_of(out: Path, cell: Cell) -> Path:
    """Return where a cell is kept."""
    return out / "cells" / cell.hash


def failed_of(out: Path, cell: Cell) -> Path:
    """Return where the notebook of a cell that failed is kept."""
    return out / "failed" / f"{cell.hash}.ipynb"


def keep(out: Path, cell: Cell, outcome: Outcome) -> None:
    """Write what came of a cell, its record last: to its folder, or, of one that failed, the notebook to look into.

    Raises:
        InputError: the disk refuses.
    """
    failed, folder = failed_of(out, cell), folder_of(out, cell)
    failed.unlink(missing_ok=True)
    if outcome.error:
        for payload in outcome.files.values():
            _write(failed, payload)
        return
    (folder / "record.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    for name, payload in sorted(outcome.files.items(), key=lambda file: file[0] == "record.json"):
        _write(folder / name, payload)


def _write(path: Path, payload: bytes) -> None:
    write_atomic(path, lambda temporary: temporary.write_bytes(payload))


def trouble_with(out: Path, cell: Cell) -> str | None:
    """Say why a cell has to be made: ``""`` where it never was, a line where its files are not those that were written, else None."""
    folder = folder_of(out, cell)
    if not (folder / "record.json").is_file():
        return ""
    try:
        verify_record(folder)
    except InputError as error:
        return str(error).partition(";")[0]
    return None


def read_cell(out: Path, cell: Cell) -> tuple[dict[str, Any], float]:
    """Return the report of a finished cell, and the seconds that it took."""
    folder = folder_of(out, cell)
    return load_json(folder / "report.json"), float(load_json(folder / "record.json")["seconds"]["total"])
