"""One declaration per knob. The slider, the papermill cell, the command-line option, the check and the docs table are made from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidistill.errors import InputError, nearest

Value = bool | int | float | str


@dataclass(frozen=True)
class Knob:
    """A number, switch or choice that a person may turn.

    Attributes:
        name: identifier, as in ``--set name=value``.
        default: the value when nothing is said; its type is the knob's type.
        doc: one line, what it does, in words. No ``=`` (papermill would not parse the comment it becomes).
        low, high: inclusive limits for numbers; ``open_low`` excludes ``low`` itself.
        step: slider step.
        choices: allowed strings; empty means free text.
        symbol, unit: the paper's symbol (``r``, ``lambda``) and the unit (``clips``, ``px``).
        source: where default and limits come from (paper section, official code, or our reason).
        equation: the formula the knob enters, as LaTeX, or "".
        group: the panel section it is shown in.
    """

    name: str
    default: Value
    doc: str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    step: float | None = None
    choices: tuple[str, ...] = ()
    symbol: str = ""
    unit: str = ""
    source: str = ""
    equation: str = ""
    group: str = "method"

    def limits(self) -> str:
        """Return the allowed values in words, e.g. ``"a number in (0, 1]"``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "text"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if self.low is None and self.high is None:
            return kind
        left = "(-inf" if self.low is None else f"{'(' if self.open_low else '['}{self.low:g}"
        right = "inf)" if self.high is None else f"{self.high:g}]"
        return f"{kind} in {left}, {right}"

    def check(self, value: Any) -> Value:
        """Return ``value`` converted to the knob's type.

        Raises:
            InputError: wrong type or outside the limits; the line repeats the value and says where the limit comes from.
        """
        why = f" ({self.source})" if self.source else ""
        wrong = InputError(f"knob {self.name}={value!r} is not allowed: it must be {self.limits()}{why}")
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise wrong
            return value
        if isinstance(self.default, str):
            if not isinstance(value, str):
                raise wrong
            if self.choices and value not in self.choices:
                raise InputError(f"knob {self.name}={value!r} is not allowed: {nearest(value, self.choices)}{why}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong
        if isinstance(self.default, int):
            if isinstance(value, float) and not value.is_integer():
                raise wrong
            value = int(value)
        else:
            value = float(value)
        too_low = self.low is not None and (value < self.low or (self.open_low and value == self.low))
        if not math.isfinite(value) or too_low or (self.high is not None and value > self.high):
            raise wrong
        return value

    def parse(self, text: str) -> Value:
        """Read a value from the text of ``--set name=text`` and check it."""
        text = text.strip()
        if isinstance(self.default, bool):
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            return self.check(words.get(text.lower(), text))
        if isinstance(self.default, str):
            return self.check(text)
        try:
            return self.check(int(text) if isinstance(self.default, int) else float(text))
        except ValueError as error:
            raise (
                error
                if isinstance(error, InputError)
                else InputError(f"knob {self.name}={text!r} is not allowed: it must be {self.limits()}")
            ) from None


class Knobs(Mapping[str, Knob]):
    """The knobs of one paper, in the order they are shown: ``Knobs("latent_vdd", Knob(...), Knob(...))``."""

    def __init__(self, paper: str, *knobs: Knob) -> None:
        self.paper = paper
        self._knobs = {knob.name: knob for knob in knobs}
        if len(self._knobs) != len(knobs):
            raise ValueError(f"{paper}: a knob is declared twice")
        for knob in knobs:
            knob.check(knob.default)
            if "=" in knob.doc or "\n" in knob.doc:
                raise ValueError(f"{paper}: the line about {knob.name} must be one line without '='")

    def __getitem__(self, name: str) -> Knob:
        try:
            return self._knobs[name]
        except KeyError:
            raise InputError(f"unknown knob {name!r} for {self.paper}: {nearest(name, self._knobs)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._knobs

    def __iter__(self) -> Iterator[str]:
        return iter(self._knobs)

    def __len__(self) -> int:
        return len(self._knobs)

    def resolve(self, *layers: Mapping[str, Any]) -> dict[str, Any]:
        """Return every knob's value: the defaults, overridden by each layer in turn (preset first, then the user's own).

        Raises:
            InputError: a layer names an unknown knob or gives a value outside the limits.
        """
        values = {name: knob.default for name, knob in self._knobs.items()}
        for layer in layers:
            for name, value in layer.items():
                values[name] = self[name].check(value)
        return values

    def parse(self, settings: Mapping[str, str]) -> dict[str, Value]:
        """Read ``{"name": "text"}`` as given on a command line."""
        return {name: self[name].parse(text) for name, text in settings.items()}

    def parameters_cell(self, values: Mapping[str, Any] | None = None) -> str:
        """Return the source of a papermill ``parameters`` cell: one typed line per knob, its meaning as the comment."""
        values = self.resolve(values or {})
        return "\n".join(f"{name}: {type(values[name]).__name__} = {values[name]!r}  # {knob.doc}" for name, knob in self._knobs.items())

    def table(self) -> str:
        """Return the documentation table in Markdown."""
        rows = ["| knob | symbol | default | allowed | meaning | source |", "| --- | --- | --- | --- | --- | --- |"]
        for name, knob in self._knobs.items():
            limits = knob.limits().replace("|", "\\|")
            rows.append(f"| `{name}` | {knob.symbol} | `{knob.default}` | {limits} | {knob.doc} | {knob.source} |")
        return "\n".join(rows)
