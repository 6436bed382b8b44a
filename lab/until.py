"""Knobs by step: until which step of a run which knobs were others than they are now, in one line that makes the run again.

    5: beta=0.2, guided=8; 9: beta=0.5        steps 1 to 5 with beta 0.2 and I 8, 6 to 9 with beta 0.5, the rest with the knobs as they are

Knobs that are not named have their present value. A fork after step k is such a line: until k the knobs of the run that is forked, then
those of now. Steps are counted from 1, as the knobs that count steps do: ``guided=8`` is the first 8 steps of the run, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidistill.errors import InputError
from vidistill.knobs import Knobs, Value

SETTING = "until"
"""What the line is called among the settings of a run."""

FIXED = ("sampling_steps",)
"""Knobs that cannot change on the way: the times of all steps hang on them."""

FORM = "5: beta=0.2, guided=8; 9: beta=0.5"


@dataclass(frozen=True)
class Segment:
    """Some steps in a row, as they are written.

    Attributes:
        last: the last of them.
        values: the knobs that are not as now.
    """

    last: int
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Span:
    """Some steps in a row, as they are run.

    Attributes:
        first, last: of them, from 1.
        values: every knob.
    """

    first: int
    last: int
    values: dict[str, Any]


def ends(text: str) -> list[int]:
    """Return the steps after which the knobs change, which is after which a run was forked.

    Raises:
        InputError: this is no such line.
    """
    return [last for last, _ in _parts(text)]


def segments(text: str, knobs: Knobs) -> list[Segment]:
    """Return the segments of a line; none for an empty one.

    Raises:
        InputError: this is no such line, its steps do not rise, or a knob is unknown, out of range or one of ``FIXED``.
    """
    found = []
    for last, named in _parts(text):
        for name in named:
            if name in FIXED:
                raise InputError(f"until={text!r} is not allowed: {name} is one for the whole run and cannot change on the way")
        found.append(Segment(last, knobs.parse(named)))
    return found


def told(found: Sequence[Segment]) -> str:
    """Return the line that :func:`segments` reads as these segments."""
    return "; ".join(f"{one.last}: {', '.join(f'{name}={_word(value)}' for name, value in one.values.items())}".strip() for one in found)


def spans(text: str, knobs: Knobs, values: Mapping[str, Any], steps: int) -> list[Span]:
    """Return all steps of a run with their knobs; the last span has those of now.

    Args:
        text: the line.
        knobs: the declarations.
        values: every knob, as it is now.
        steps: N, of the run.

    Raises:
        InputError: as :func:`segments`, or a segment ends with the run's last step or later.
    """
    found = segments(text, knobs)
    for one in found:
        if one.last >= steps:
            raise InputError(f"until={text!r} is not allowed: the run has {steps} steps, and those of now need one after {one.last}")
    whole = [(one.last, {**values, **one.values}) for one in found] + [(steps, dict(values))]
    firsts = [1, *(last + 1 for last, _ in whole)]
    return [Span(first, last, each) for first, (last, each) in zip(firsts, whole, strict=False)]


def fork(knobs: Knobs, before: Mapping[str, Any], now: Mapping[str, Any], step: int) -> str:
    """Return the line of a run that is another one up to and with a step, and goes on with the knobs of now.

    Of segments of the other run those that end before the step stay, the one that has it ends there, and those after it are gone. Where
    no knob changes at the step, the line says nothing of it.

    Args:
        knobs: the declarations.
        before: the settings of the run that is forked: its knobs, ``SETTING`` where it was forked itself, and whatever else was asked for.
        now: the settings to go on with; a ``SETTING`` among them is not looked at.
        step: the last step that is kept, from 1.

    Raises:
        InputError: there is no such step, or the settings differ in something that makes another run from the first step on.
    """
    if step < 1:
        raise InputError(f"cannot fork after step {step}: a fork keeps at least the first step")
    for name in {**before, **now}:
        if (name not in knobs or name in FIXED) and name != SETTING and before.get(name) != now.get(name):
            raise InputError(
                f"a fork keeps {name.replace('_', ' ')}: it was {before.get(name)!r} and is {now.get(name)!r}; set it back, "
                "or begin from the beginning"
            )
    was, present = ({name: settings[name] for name in knobs if name in settings} for settings in (before, now))
    kept: list[Segment] = []
    for last, values in _until(step, [(one.last, {**was, **one.values}) for one in segments(before.get(SETTING, ""), knobs)], was):
        changed = {name: value for name, value in values.items() if value != present[name]}
        if kept and kept[-1].values == changed:
            kept.pop()
        kept.append(Segment(last, changed))
    if kept and not kept[-1].values:
        kept.pop()
    return told(kept)


def _until(step: int, segments: Sequence[tuple[int, dict[str, Any]]], rest: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield segments up to a step, the last of them cut or made longer to end there."""
    for last, values in segments:
        if last >= step:
            yield step, values
            return
        yield last, values
    yield step, rest


def _parts(text: str) -> list[tuple[int, dict[str, str]]]:
    """Return step and named values of each segment, as they are written."""
    wrong = f"until={text!r} is not allowed"
    found: list[tuple[int, dict[str, str]]] = []
    for part in text.split(";") if text.strip() else []:
        step, colon, rest = part.partition(":")
        pairs = [each.partition("=") for each in rest.split(",")] if rest.strip() else []
        named = {name.strip(): value.strip() for name, _, value in pairs}
        if not colon or not step.strip().isdecimal() or not all(name.strip() and value.strip() for name, _, value in pairs):
            raise InputError(f"{wrong}: write it as {FORM!r}, a step and the knobs that are others until then")
        if len(named) < len(pairs):
            raise InputError(f"{wrong}: a knob is named twice until step {step.strip()}")
        if (last := int(step)) <= (before := found[-1][0] if found else 0):
            raise InputError(f"{wrong}: its steps must rise from 1 on, and {last} comes after {before}")
        found.append((last, named))
    return found


def _word(value: Value) -> str:
    short = f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short
