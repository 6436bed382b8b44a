"""The numbers of a sweep: a tidy table, one row a cell, arm and measure; and of each point its score and what it gains over the base.

Clocks stand in columns of their own, so that without them the same sweep gives the same table wherever it was run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill.errors import InputError, choose
from vidistill.files import write_atomic
from vidistill.knobs import Value
from vidistill.lab.cells import Cell, point_name
from vidistill.lab.history import CLOCKS
from vidistill.lab.sweeps import Done, Sweep
from vidistill.measure import interval, paired

if TYPE_CHECKING:
    import pyarrow

BEFORE, AFTER = ("paper",), ("seed", "arm", "role", "measure", "value", "clock", "cell_seconds", "cell")
"""The columns on both sides of the knobs of the grid."""

TIMES = ("clock", "cell_seconds")
"""The columns that no two runs share: a measure that is a clock, and the seconds of the whole cell."""


def arrow() -> Any:
    """Return pyarrow.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("the table of a sweep needs pyarrow: pip install 'vidistill[bench]'") from None
    return pyarrow


def table_of(done: Done) -> pyarrow.Table:
    """Return the table of a sweep: in the order of its points, seeds, arms and measures.

    Columns: ``paper``; each knob of the grid; ``seed``; ``arm``, ``role``; ``measure`` (``score`` is what the arms are judged by,
    ``bytes.total`` the stored file) and its ``value``, or, where the measure is a clock, ``clock`` in seconds; ``cell_seconds``; ``cell``,
    the hash.
    """
    pa = arrow()
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    words, numbers = ("paper", "arm", "role", "measure", "cell"), ("value", *TIMES)
    knobs = {name: kinds[type(values[0])] for name, values in done.sweep.grid.items()}
    types = dict.fromkeys(words, pa.string()) | dict.fromkeys(numbers, pa.float64()) | knobs | {"seed": pa.int64()}
    about = {"paper": done.sweep.paper, "knobs": done.sweep.values, "score": done.score}
    schema = pa.schema([(name, types[name]) for name in (*BEFORE, *knobs, *AFTER)], {"vidistill": json.dumps(about, sort_keys=True)})
    rows = [row for cell in done.sweep.cells if cell.hash in done.arms for row in _rows(cell, done)]
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(cell: Cell, done: Done) -> Iterator[dict[str, Any]]:
    where = {"paper": cell.paper, **cell.turned, "seed": cell.seed, "cell": cell.hash, "cell_seconds": done.seconds[cell.hash]}
    for arm in done.arms[cell.hash]:
        for measure, value in _measures(arm):
            yield {**where, "arm": arm["name"], "role": arm["role"], "measure": measure, "clock" if measure in CLOCKS else "value": value}


def _measures(arm: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number of an arm with its name; of an interval over the cell's only seed its mean."""
    for name, value in arm.items():
        if name == "difference":  # to the control: a row less the control's
            continue
        if isinstance(value, Mapping):
            parts = {name: value["mean"]} if "mean" in value else {f"{name}.{part}": number for part, number in value.items()}
        else:
            parts = {name: value}
        for part, number in parts.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield part, float(number)


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a table as parquet, compressed by zstd, whole or not at all."""
    import pyarrow.parquet

    write_atomic(path, lambda temporary: pyarrow.parquet.write_table(table, temporary, compression="zstd"))


# Points.


@dataclass(frozen=True)
class Point:
    """What came of a point of the grid.

    Attributes:
        turned: the knobs of the grid and their values.
        first: the cell of its first seed.
        score: its interval over the seeds that have it; None where none has.
        difference: to the base, paired over the seeds that both have, with a verdict; None where there is none, and of the base.
        failed: how many of its cells failed.
        base: whether the others are compared with it.
    """

    turned: dict[str, Value]
    first: Cell
    score: dict[str, Any] | None
    difference: dict[str, Any] | None
    failed: int
    base: bool


def pick_arm(done: Done, arm: str | None = None) -> str:
    """Return the arm that is shown: the one that is asked for, else the first method; ``""`` where no cell is finished.

    Raises:
        InputError: no cell has such an arm.
    """
    roles = {row["name"]: row["role"] for arms in done.arms.values() for row in arms}
    if not roles:
        return ""
    return choose("arm", arm, roles) if arm else next((name for name, role in roles.items() if role == "method"), next(iter(roles)))


def points_of(done: Done, arm: str) -> list[Point]:
    """Return every point of the grid with its score and its paired difference to the base."""
    sweep = done.sweep
    found = {hash: row["score"]["mean"] for hash, arms in done.arms.items() for row in arms if row["name"] == arm}
    values = [{cell.seed: found[cell.hash] for cell in cells if cell.hash in found} for cells in sweep.points]
    base = next((known for cells, known in zip(sweep.points, values, strict=True) if cells[0].turned == sweep.base), {})
    points = []
    for cells, known in zip(sweep.points, values, strict=True):
        own, both = cells[0].turned == sweep.base, [seed for seed in known if seed in base]
        apart = None if own or not both else paired([known[seed] for seed in both], [base[seed] for seed in both])
        failed = sum(cell.hash in done.failed for cell in cells)
        points.append(Point(cells[0].turned, cells[0], interval(list(known.values())) if known else None, apart, failed, own))
    return points


def base_line(sweep: Sweep) -> str:
    """Say what the differences are to, and over which seeds."""
    seeds = sweep.seeds
    run = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    words = f"{seeds[0]} to {seeds[-1]}" if run and len(seeds) > 1 else ", ".join(map(str, seeds))
    return f"differences are to {point_name(sweep.base)}, paired by seed; seed{'s' * (len(seeds) > 1)} {words}"
