"""A grid over one knob or two: a cell for each pair of values, the same seeds in every cell, each cell measured against the one of now.

Clips are uint8 RGB ``[3, T, H, W]``; T is their frames.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.knobs import Knob, Knobs, Value
from vidistill.lab.presets import PAPERS, load_presets
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.measure import paired

CLIPS = 36
"""Clips of a grid at most: cells times seeds."""

SURE = 3
"""Seeds from which on a difference has an interval: with two it is wider than any difference."""

WAIT = 0.05
"""Seconds between two looks at whether another run is over."""

Run = Callable[[Mapping[str, Any]], Iterator[Step]]
"""A run of such settings; its results are previews and looks, of which the last counts."""


# ------------------------------------------------------------------------------------------------------------------ values


def values_of(knob: Knob, count: int = 3, around: Value | None = None, paper: Value | None = None) -> list[Value]:
    """Propose values of a knob, in their order: every choice, both ways of a switch, ``count`` numbers evenly between the limits.

    Args:
        knob: the declaration. Where a number has no limit on a side, its value now and once more of its size is the end.
        count: how many numbers, at least 1.
        around: the value now; it is among the numbers, in the place of the nearest.
        paper: the paper's value; likewise, unless it is out of the limits.
    """
    if isinstance(knob.default, bool):
        return [False, True]
    if knob.choices:
        return list(knob.choices)
    if isinstance(knob.default, str):
        return [knob.default if around is None else around]
    low, high, step = _ends(knob, float(knob.default if around is None else around))
    even = [_snapped(knob, low + k * (high - low) / max(count - 1, 1), low, high, step) for k in range(count)]
    kept = list(dict.fromkeys(value for value in (around, paper) if isinstance(value, int | float) and low <= value <= high))[:count]
    free = [value for value in even if value not in kept]
    for value in kept:
        if value not in even and free:
            del free[min(range(len(free)), key=[abs(other - value) for other in free].__getitem__)]
    return sorted({*free, *kept})


def _ends(knob: Knob, now: float) -> tuple[float, float, float]:
    """Return lowest and highest value to propose, and the step between two."""
    step = knob.step or (1 if isinstance(knob.default, int) else 0.01)
    wide = abs(now) or step
    low = now - wide if knob.low is None else knob.low + step if knob.open_low else knob.low
    return low, now + wide if knob.high is None else knob.high, step


def _snapped(knob: Knob, value: float, low: float, high: float, step: float) -> int | float:
    near = min(low + round((value - low) / step) * step, high)
    return round(near) if isinstance(knob.default, int) else round(float(near), 9)


def paper_value(knobs: Knobs, name: str) -> Value | None:
    """Return what the paper has for a knob, None where the knobs are no paper's or it has no such preset."""
    known = load_presets(knobs.paper) if knobs.paper in PAPERS else {}
    return knobs[name].check(known["paper"].get(name, knobs[name].default)) if "paper" in known else None


def parse_values(knob: Knob, text: str) -> list[Value]:
    """Read the values of a knob from a line, ``"0.1, 0.3, 0.5"``.

    Raises:
        InputError: there is none, one is not allowed (of choices, the nearest is named), or one is there twice.
    """
    found: list[Value] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        value = knob.parse(word)
        if value in found:
            raise InputError(f"knob {knob.name} has the value {told(value)} twice; write each once")
        found.append(value)
    if not found:
        raise InputError(f"knob {knob.name} has no values; write some with commas between them, e.g. {line_of(values_of(knob))}")
    return found


def told(value: Value) -> str:
    """Return a value in words, as :func:`parse_values` reads it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.9g}" if isinstance(value, float) else str(value)


def line_of(values: Sequence[Value]) -> str:
    """Return values as a line that :func:`parse_values` reads."""
    return ", ".join(map(told, values))


# ------------------------------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True)
class Cell:
    """One place of a grid.

    Attributes:
        row, column: from 0.
        turned: the knobs of the grid and their values here, the one across first.
        settings: everything that is asked for, the seed aside.
        seeds: the same in every cell.
        now: whether it has the settings that the grid was asked for with.
    """

    row: int
    column: int
    turned: dict[str, Value]
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    now: bool

    @property
    def name(self) -> str:
        """What it is called, counted from 1, the row first."""
        return f"cell {self.row + 1}, {self.column + 1}"

    def asked(self, seed: int) -> dict[str, Any]:
        """Return the settings of one of its clips."""
        return {**self.settings, "seed": seed}


def cells(settings: Mapping[str, Any], x: str, xs: Sequence[Value], y: str | None, ys: Sequence[Value], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells of a grid, row by row.

    Args:
        settings: everything that is asked for now.
        x, xs: the knob across and its values.
        y, ys: the knob down and its values; without one there is a single row.
        seeds: of the clips of every cell, so that cells are compared seed by seed.

    Raises:
        InputError: one knob twice, one that ``settings`` lack, nothing to make, or more than ``CLIPS`` clips.
    """
    for name in (x,) if y is None else (x, y):
        choose("knob", name, settings)
    if x == y:
        raise InputError(f"the grid has the knob {x} both across and down; pick another one down, or none")
    rows: list[dict[str, Value]] = [{}] if y is None else [{y: value} for value in ys]
    count = len(xs) * len(rows) * len(seeds)
    if not 0 < count <= CLIPS:
        words = f"{len(rows)} x {len(xs)} cells with {len(seeds)} seed{'' if len(seeds) == 1 else 's'} each are {count} clips"
        raise InputError(f"{words}; a grid has 1 to {CLIPS}: give {'fewer' if count else 'more'} values or seeds")
    found = []
    for row, down in enumerate(rows):
        for column, value in enumerate(xs):
            turned = {x: value, **down}
            now = all(settings[name] == turn for name, turn in turned.items())
            found.append(Cell(row, column, turned, {**settings, **turned}, tuple(seeds), now))
    return found


# ------------------------------------------------------------------------------------------------------------------- looks


@dataclass(frozen=True)
class Made:
    """What has come of a cell so far.

    Attributes:
        cell: which.
        look, clip: of its first seed; None until it is there.
        numbers: of each seed that is done, name -> value, None where there is no number.
        seconds: what its clips took.
        error: why it has no more clips, one line; "" while nothing went wrong.
    """

    cell: Cell
    look: Any = None
    clip: Tensor | None = None
    numbers: tuple[Mapping[str, float | None], ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Worth:
    """One number of a cell.

    Attributes:
        mean: over the seeds that have it, None where none has. n: how many.
        difference: of this cell and the cell of now, mean over the seeds that both have; None where there is none, and of that cell.
        low, high: its 95 % t interval; None with fewer than ``SURE`` such seeds.
    """

    mean: float | None = None
    n: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GridLook:
    """A grid, whole or in part.

    Attributes:
        made: what came of each cell, row by row.
    """

    made: tuple[Made, ...]

    @property
    def knobs(self) -> tuple[str, ...]:
        """The knob across and, where there is one, the knob down."""
        return tuple(self.made[0].cell.turned)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every cell."""
        return self.made[0].cell.seeds

    @property
    def columns(self) -> list[Value]:
        """The values across."""
        return [one.cell.turned[self.knobs[0]] for one in self.made if one.cell.row == 0]

    @property
    def rows(self) -> list[Value]:
        """The values down, none without a knob there."""
        return [one.cell.turned[self.knobs[1]] for one in self.made if one.cell.column == 0] if len(self.knobs) == 2 else []

    @property
    def clips(self) -> dict[tuple[int, int], Tensor]:
        """Row and column -> the clip of the first seed, where it is there."""
        return {(one.cell.row, one.cell.column): one.clip for one in self.made if one.clip is not None}

    @property
    def names(self) -> list[str]:
        """What the numbers are called."""
        return list(dict.fromkeys(name for one in self.made for numbers in one.numbers for name in numbers))

    def worth(self, made: Made, name: str) -> Worth:
        """Return one number of a cell, over its seeds."""
        mine = _values(made, name)
        known = [value for value in mine if value is not None]
        if not known:
            return Worth()
        found = Worth(statistics.fmean(known), len(known))
        now = next((one for one in self.made if one.cell.now), made)
        both = [(a, b) for a, b in zip(mine, _values(now, name), strict=False) if a is not None and b is not None]
        if now is made or not both:
            return found
        apart = paired([a for a, _ in both], [b for _, b in both])
        sure = len(both) >= SURE
        return replace(found, difference=apart["mean"], low=apart["low"] if sure else None, high=apart["high"] if sure else None)

    def told(self) -> str:
        """Say how much of it is there, and what its differences are against."""
        failed, clips = sum(bool(one.error) for one in self.made), sum(len(one.numbers) for one in self.made)
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        now = next((one.cell.name for one in self.made if one.cell.now), None)
        own = "has the page's own settings"
        against = f"differences are to {now}, which {own}" if now else f"no cell {own}: no differences"
        trouble = f", {failed} of {len(self.made)} cells failed" if failed else ""
        return f"{clips} of {len(self.made) * len(self.seeds)} clips made{trouble}; {seeds}, the same in every cell; {against}"


def _values(made: Made, name: str) -> list[float | None]:
    """Return a number for each seed that is done, None where there is none."""
    found = [numbers.get(name) for numbers in made.numbers]
    return [None if value is None or not math.isfinite(value) else value for value in found]


# -------------------------------------------------------------------------------------------------------------------- runs


def grid_steps(
    plan: Sequence[Cell],
    run: Run,
    clip: Callable[[Any], Tensor],
    numbers: Callable[[Any], Mapping[str, float | None]],
    busy: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Make the clips of a grid one after the other, the first seed of every cell first, so that all are seen soon; a result after each.

    A cell that fails keeps its error, and the others go on. Closing the iterator cancels within one step of the clip that is being made.

    Args:
        plan: see :func:`cells`.
        run: makes one clip.
        clip: of what ``run`` gave.
        numbers: likewise.
        busy: whether a run that has precedence is under way: between two steps it is waited for.
    """
    made, done, total = [Made(cell) for cell in plan], 0, sum(len(cell.seeds) for cell in plan)
    for seed in plan[0].seeds:
        for k, before in enumerate(made):
            if not before.error:
                made[k] = yield from _more(before, seed, run, clip, numbers, busy, (done, total))
            done += 1
            yield Step("clips", done, total, GridLook(tuple(made)))


def _more(
    made: Made,
    seed: int,
    run: Run,
    clip: Callable[[Any], Tensor],
    numbers: Callable[[Any], Mapping[str, float | None]],
    busy: Callable[[], bool],
    progress: tuple[int, int],
) -> Generator[Step, None, Made]:
    """Make one more clip of a cell."""
    look, seconds, steps = None, 0.0, iter(())
    try:
        steps = run(made.cell.asked(seed))
        while True:
            while busy():
                time.sleep(WAIT)
                yield Step("waits for the page's own run; clips", *progress)
            began = time.perf_counter()
            step = next(steps, None)
            seconds += time.perf_counter() - began
            if step is None:
                break
            if not isinstance(step.result, Preview | None):
                look = step.result
            yield Step("clips", *progress)
        if look is None:
            raise InputError("the run gave no clip")
        more = replace(made, numbers=(*made.numbers, numbers(look)), seconds=made.seconds + seconds)
        return more if made.numbers else replace(more, look=look, clip=clip(look))
    except Exception as error:
        said = " ".join(str(error).split())
        return replace(
            made, seconds=made.seconds + seconds, error=said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
        )
    finally:
        if (close := getattr(steps, "close", None)) is not None:
            close()
