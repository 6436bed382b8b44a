"""A sweep: every point of a grid of knobs with the same seeds, each cell once. What is finished is read, so that a repeated sweep resumes.

``sweep.parquet``, ``sweep.json`` and ``index.html`` are made from the finished cells alone: they are the same whatever engine made these,
in how many processes, and after however many interruptions; only clocks differ.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vidistill.distill.parallel import Ranks
from vidistill.errors import InputError, choose
from vidistill.files import digest, ensure_folder, load_json, save_json
from vidistill.knobs import Knobs, Value
from vidistill.lab.cells import Cell, failed_of, keep, read_cell, trouble_with
from vidistill.lab.engines import ENGINES
from vidistill.lab.grid import parse_values
from vidistill.lab.runner import notebooks_dir
from vidistill.types import Progress, silent

LIMIT = 10_000
"""Cells of a sweep at most."""

OWN = "seeds"
"""The knob that a sweep sets: a cell has one repetition."""

ALONE = Ranks()


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for, checked.

    Attributes:
        paper: whose knobs are turned.
        grid: knob -> its values, in the order in which they were given; the first knob is across, the second down.
        seeds: the same at every point.
        values: every knob where the grid does not turn it.
        notebook: what a cell runs.
        cells: point by point, the seeds of a point one after the other.
    """

    paper: str
    grid: dict[str, list[Value]]
    seeds: tuple[int, ...]
    values: dict[str, Value]
    notebook: Path
    cells: tuple[Cell, ...]

    @property
    def points(self) -> list[tuple[Cell, ...]]:
        """The cells of each point of the grid, seed by seed; the last knob turns fastest."""
        return [self.cells[start : start + len(self.seeds)] for start in range(0, len(self.cells), len(self.seeds))]

    @property
    def base(self) -> dict[str, Value]:
        """The point that the others are compared with: of each knob the value without the grid, else the first in it."""
        return {name: self.values[name] if self.values[name] in found else found[0] for name, found in self.grid.items()}


@dataclass(frozen=True)
class Done:
    """What a sweep has come to.

    Attributes:
        sweep: as it was asked for.
        arms: hash of a finished cell -> the arms of its report.
        score: what the arms are judged by; empty where no cell is finished.
        seconds: hash of a finished cell -> what it took.
        failed: hash -> why there is no result, one line.
    """

    sweep: Sweep
    arms: dict[str, list[dict[str, Any]]]
    score: dict[str, Any]
    seconds: dict[str, float]
    failed: dict[str, str]


# Asking.


def parse_grid(knobs: Knobs, texts: Sequence[str]) -> dict[str, list[Value]]:
    """Read ``["rank_ratio=0.25,0.5", "selector=dpp,random"]``.

    Raises:
        InputError: none is given or one is not of this form, a knob is unknown or there twice, or a value is not allowed or there twice.
    """
    grid: dict[str, list[Value]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise InputError(f"--grid {text!r} is not of the form knob=value,value")
        if name in grid:
            raise InputError(f"--grid turns the knob {name} twice: write all of its values after one {name}=")
        grid[name] = parse_values(knobs[name], values)
    if not grid:
        raise InputError("a sweep turns at least one knob: --grid knob=value,value")
    return grid


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``"0:5"`` (0, 1, 2, 3 and 4), ``"7"`` or ``"0, 3, 8"``.

    Raises:
        InputError: it is none of these, there is no seed in it, or one is there twice.
    """
    words = [word.strip() for word in text.split(",")]
    found: list[int] = []
    for word in words:
        match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", word)
        if match is None:
            raise InputError(f"--seeds {text!r} is not allowed: write 0:5 for the seeds 0 to 4, or 0,3,8")
        first, last = int(match[1]), int(match[2] or int(match[1]) + 1)
        if last <= first:
            raise InputError(f"--seeds {text!r} holds no seed: {word} ends before it begins; write {last}:{first}")
        if last - first > LIMIT:
            raise InputError(f"--seeds {text!r} holds {last - first:,} seeds; a sweep has at most {LIMIT:,} cells")
        found += range(first, last)
    if len(set(found)) < len(found):
        raise InputError(f"--seeds {text!r} holds a seed twice; write each once")
    return tuple(found)


def plan(
    knobs: Knobs,
    grid: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
    values: Mapping[str, Any] | None = None,
    *,
    named: Mapping[str, Any] | None = None,
    key: Callable[[Mapping[str, Value]], Any] = lambda values: None,
    notebook: str | Path | None = None,
    data: str = "",
    layout: str = "ucf101",
    device: str = "cpu",
) -> Sweep:
    """Return a sweep, every knob checked.

    Args:
        knobs: of the paper.
        grid: knob -> values. seeds: of every point.
        values: what is set in every cell; the other knobs keep their defaults.
        named: values of a preset, in place of defaults.
        key: knob values -> what else decides a result, JSON-ready: the code, the data.
        notebook: what a cell runs; default: ``cell.ipynb``, which runs a paper.
        data, layout, device: as ``vidistill run`` has them; a device of another kind makes other cells.

    Raises:
        InputError: a knob is unknown, a value is not allowed, a knob is set and turned, or there are too many cells.
    """
    if not grid or not seeds:
        raise InputError("a sweep needs at least one knob to turn and one seed")
    fixed = dict(values or {})
    for name in (OWN, *fixed):
        if name in grid:
            why = "a cell has one repetition; say --seeds" if name == OWN else f"it is set to {fixed[name]!r}, too; do one of the two"
            raise InputError(f"the grid cannot turn the knob {name}: {why}")
    if OWN in fixed:
        raise InputError(f"the knob {OWN} cannot be set in a sweep: a cell has one repetition; say --seeds")
    turned = {name: [knobs[name].check(value) for value in found] for name, found in grid.items()}
    count = math.prod(map(len, turned.values())) * len(seeds)
    if count > LIMIT:
        sides = " x ".join(str(len(found)) for found in turned.values())
        raise InputError(f"a grid of {sides} points with {len(seeds):,} seeds has {count:,} cells; a sweep has at most {LIMIT:,}")
    place = Path(notebook or notebooks_dir() / "cell.ipynb")
    base = knobs.resolve(named or {}, fixed, {OWN: 1} if OWN in knobs else {})
    about = {"paper": knobs.paper, "layout": layout, "device": device.partition(":")[0], "notebook": _code(place)}
    shared = {"paper": knobs.paper, "data": data, "layout": layout, "device": device}
    cells = []
    for point in product(*turned.values()):
        here = dict(zip(turned, point, strict=True))
        asked = base | here
        decides = about | {"knobs": asked, "key": key(asked)}
        text = json.dumps(asked, allow_nan=False)
        cells += [Cell(knobs.paper, here, seed, shared | {"knobs": text, "seed": seed}, digest(decides | {"seed": seed})) for seed in seeds]
    return Sweep(knobs.paper, turned, tuple(seeds), base, place, tuple(cells))


def _code(notebook: Path) -> list[str]:
    """Return the code of a notebook, without what an editor writes beside it."""
    return ["".join(cell["source"]) for cell in load_json(notebook)["cells"] if cell["cell_type"] == "code"]


# Doing.


def run_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    engine: str = "threads",
    jobs: int | None = None,
    ranks: Ranks = ALONE,
    told: Callable[[str], object] = lambda line: None,
    progress: Progress = silent,
) -> Done | None:
    """Make the cells that ``out`` does not hold, and return all of them; None in every process but the first.

    The first seed of every point comes first, so that all are seen soon and the time left is of cells of all kinds. A cell that fails is
    told of, and the others go on; it is made again by the next run.

    Args:
        sweep: see :func:`plan`.
        out: folder; ``cells/<hash>`` keeps each finished cell, ``failed/<hash>.ipynb`` what ran of one that failed.
        engine, jobs: see :mod:`vidistill.lab.engines`.
        ranks: this process among those that torchrun or accelerate started; they share ``out`` and each makes its part of the cells.
        told: gets a line for each cell that failed, and for each whose files were changed.
        progress: called with stage ``"cells"`` several times a second.

    Raises:
        InputError: an unknown engine or one that is not installed, Ray in several processes, the disk refuses, or another process stopped.
    """
    out, start = ensure_folder(out), ENGINES[choose("engine", engine, ENGINES)]
    if engine == "ray" and ranks.world > 1:
        raise InputError("engine ray shares the cells itself: start one process, without torchrun or accelerate launch")
    ordered = sorted(sweep.cells, key=lambda cell: sweep.seeds.index(cell.seed))[ranks.rank :: ranks.world]
    todo = []
    for cell in ordered:
        trouble = trouble_with(out, cell)
        if trouble is not None:
            todo.append(cell)
        if trouble:
            told(f"{cell.name} is made again: {trouble}")
    failed: dict[str, str] = {}
    done = 0

    def alive() -> None:
        progress("cells", done, len(todo))

    with closing(start(todo, sweep.notebook, jobs, alive)) as outcomes:
        for cell, outcome in outcomes:
            keep(out, cell, outcome)
            done += 1
            alive()
            if outcome.error:
                failed[cell.hash] = outcome.error
                told(f"failed: {cell.name}: {outcome.error}" + f"; what ran is in {failed_of(out, cell)}" * bool(outcome.files))
    failed = _of_all(failed, ranks)
    return None if ranks.rank else _read(sweep, out, failed)


def _of_all(failed: dict[str, str], ranks: Ranks) -> dict[str, str]:
    """Return what failed in all processes, once all are done."""
    if ranks.world == 1:
        return failed
    import torch.distributed as dist

    every: list[dict[str, str]] = [{}] * ranks.world
    try:
        dist.all_gather_object(every, failed)
    except RuntimeError as error:  # the connection to it is gone
        raise InputError(f"another process stopped ({str(error).splitlines()[0][:120]}): the same command resumes") from None
    return {name: line for part in every for name, line in part.items()}


def _read(sweep: Sweep, out: Path, failed: Mapping[str, str]) -> Done:
    arms, seconds, score = dict[str, list[dict[str, Any]]](), dict[str, float](), dict[str, Any]()
    for cell in sweep.cells:
        if cell.hash not in failed:
            report, seconds[cell.hash] = read_cell(out, cell)
            arms[cell.hash], score = report["arms"], score or report["score"]
    return Done(sweep, arms, score, seconds, {cell.hash: failed[cell.hash] for cell in sweep.cells if cell.hash in failed})


def save_summary(out: Path, done: Done, command: str, data: str, layout: str) -> None:
    """Write ``sweep.json``: what was asked for, every cell with its folder, and why some failed; there is no clock in it."""
    sweep = done.sweep
    cells = [{"hash": cell.hash, "turned": cell.turned, "seed": cell.seed, "error": done.failed.get(cell.hash, "")} for cell in sweep.cells]
    asked = {"paper": sweep.paper, "grid": sweep.grid, "seeds": list(sweep.seeds), "knobs": sweep.values, "base": sweep.base}
    save_json(out / "sweep.json", asked | {"data": data, "layout": layout, "command": command, "score": done.score, "cells": cells})
