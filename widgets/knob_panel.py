"""The knob panel: every slider, list and switch made from one declaration, so that no invalid value can be set."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import panel as pn
import param

from vidistill.errors import InputError, choose
from vidistill.knobs import Knob, Knobs, Value
from vidistill.rng import stream_seed
from vidistill.widgets import style, theme
from vidistill.widgets.equation import mathml
from vidistill.widgets.readings import Readings, differing, spelled

OWN = "custom"
SEEDS = 10_000  # the dice draws below this, so that a seed can be read aloud


class Tick(pn.widgets.CompositeWidget):
    """A box with words beside it that tick it too; the lone Checkbox of Panel has neither that nor a name for a screen reader."""

    value = param.Boolean(default=False, doc="whether it is ticked")

    _composite_type = pn.Row

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._box = pn.widgets.CheckBoxGroup(stylesheets=[style.CONTROL], margin=0)
        self._composite[:] = [self._box]
        self._box.param.watch(lambda event: setattr(self, "value", bool(event.new)), "value")
        self.param.watch(self._shown, ["value", "name", "disabled"])
        self._shown()

    def _shown(self, *events: Any) -> None:
        self._box.param.update(options={self.name: True}, value=[True] if self.value else [], disabled=self.disabled)


def label(knob: Knob) -> str:
    """Return a knob's label: its name in words, the paper's symbol, the unit."""
    words = knob.name.replace("_", " ")
    symbol = f"  {knob.symbol}" if knob.symbol else ""
    return f"{words}{symbol} [{knob.unit}]" if knob.unit else f"{words}{symbol}"


def control(knob: Knob) -> Any:
    """Return the widget of a knob: a switch, a list, a slider between its limits, or a text box."""
    common: dict[str, Any] = {
        "name": label(knob),
        "value": knob.default,
        "stylesheets": [style.CONTROL],
        "sizing_mode": "stretch_width",
        "margin": 0,
    }
    if isinstance(knob.default, bool):
        return Tick(name=label(knob), value=knob.default, margin=0)
    if knob.choices:
        return pn.widgets.Select(options=list(knob.choices), **common)
    if isinstance(knob.default, str):
        return pn.widgets.TextInput(**common)
    whole = isinstance(knob.default, int)
    step = knob.step or (1 if whole else 0.01)
    low = knob.low if knob.low is None or not knob.open_low else knob.low + step
    if low is None or knob.high is None or (knob.high - low) / step > 2000:
        kind = pn.widgets.IntInput if whole else pn.widgets.FloatInput
        return kind(start=low, end=knob.high, step=step, **common)
    if whole:
        return pn.widgets.IntSlider(start=int(low), end=int(knob.high), step=int(step), **common)
    return pn.widgets.FloatSlider(start=low, end=knob.high, step=step, format="0[.]00", **common)


class KnobPanel(pn.viewable.Viewer):
    """A panel of knobs with presets, reset and a seed.

    ``values`` always holds every knob of ``knobs`` (also those not shown), checked; it changes when a slider is let go.

    Args:
        knobs: the declarations.
        show: names shown as controls, in order; None shows all.
        presets: name -> values as :func:`vidistill.lab.presets.load_presets` gives them; the one called ``"paper"`` marks the paper's
            value under each control.
        start: the values to begin with.
        uses: name -> test of the values that says whether the knob has any effect now; a knob without effect is greyed out.
        words: name -> what a control is called, where the knob's own name does not say enough.
        folded: names of ``show`` that are under "more knobs", closed at first.
        beside: name -> a small drawing of what the knob does, shown under its control.

    Raises:
        InputError: a drawing for a knob that is not shown.
    """

    values = param.Dict(default={}, doc="every knob, valid, after the last release")
    seed = param.Integer(default=0, bounds=(0, None), doc="the seed")

    def __init__(
        self,
        knobs: Knobs,
        *,
        show: Iterable[str] | None = None,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        start: Mapping[str, Any] | None = None,
        uses: Mapping[str, Callable[[Mapping[str, Any]], bool]] | None = None,
        words: Mapping[str, str] | None = None,
        folded: Iterable[str] = (),
        beside: Mapping[str, pn.viewable.Viewable] | None = None,
        **params: Any,
    ) -> None:
        self.knobs, self._uses = knobs, dict(uses or {})
        # A preset is every knob's value: what it does not name keeps its declared default.
        self._presets = {name: knobs.resolve({k: v for k, v in preset.items() if k != "about"}) for name, preset in (presets or {}).items()}
        self._start = knobs.resolve(start or {})
        self._folded = frozenset(folded)
        self._caps: dict[str, tuple[float, str]] = {}
        super().__init__(values=dict(self._start), **params)
        self.controls = {name: control(knobs[name]) for name in (knobs if show is None else show)}
        for name, said in (words or {}).items():
            self.controls[name].name = said
        self._beside = {choose("knob", name, self.controls): drawing for name, drawing in (beside or {}).items()}
        about = {name: preset.get("about", "") for name, preset in (presets or {}).items()}
        self.readings = {
            name: Readings(name.replace("_", " "), found, about, lambda value, name=name: self.set({name: value}))
            for name in self.controls
            if (found := differing(self._presets, name))
        }
        self._hints = {name: style.text(margin=(0, 0, 5, 0)) for name in self.controls}
        for name in self.controls:
            self._mark(name)
        self._quiet = False
        for name, widget in self.controls.items():
            released = "value_throttled" if "value_throttled" in widget.param else "value"
            widget.param.watch(lambda event, name=name: self._turned(name, event.new), released)
        css = [style.CONTROL]
        self.preset = pn.widgets.Select(
            name="preset", options=[*self._presets, OWN], value=OWN, stylesheets=css, sizing_mode="stretch_width", margin=(0, 8, 0, 0)
        )
        self.reset_button = pn.widgets.Button(name="Reset", align="end", width=70, margin=0, stylesheets=css)
        self.seed_box = pn.widgets.IntInput(name="seed", start=0, value=self.seed, sizing_mode="stretch_width", margin=0, stylesheets=css)
        self.dice_button = pn.widgets.Button(name="Dice", align="end", width=60, margin=(0, 8), stylesheets=css)
        self.lock = Tick(name="keep", align="end", margin=(0, 0, 6, 0))
        self.preset.param.watch(self._preset_chosen, "value")
        self.reset_button.on_click(lambda event: self.set(self._start))
        self.dice_button.on_click(lambda event: setattr(self, "seed", stream_seed(self.seed, "dice") % SEEDS))
        self.seed_box.param.watch(lambda event: self._take_seed(event.new), "value")
        self.lock.param.watch(lambda event: self._locked(event.new), "value")
        self.param.watch(lambda event: setattr(self.seed_box, "value", event.new), "seed")
        self._mirror()

    @property
    def mirroring(self) -> bool:
        """Whether the controls are being made to show ``values``: what they report then was chosen by nobody."""
        return self._quiet

    def set(self, values: Mapping[str, Any]) -> None:
        """Turn several knobs at once: one change of ``values``. What a cap forbids is clipped, and its hint says so.

        Raises:
            InputError: an unknown knob or a value outside the declared limits.
        """
        self._set(values)

    def _set(self, values: Mapping[str, Any], turned: str | None = None) -> None:
        merged = self.knobs.resolve(self.values, values)
        self.values = {name: self._capped(name, value) for name, value in merged.items()}
        self._mirror(turned)

    def cap(self, name: str, high: float, why: str) -> None:
        """Lower a knob's upper end to what the data at hand allow; ``why`` is shown under it."""
        self._caps[name] = (high, why)
        widget = self.controls.get(name)
        if widget is not None:
            low = widget.start if widget.start is not None else 0
            # A slider needs two different ends; with a single allowed value it is greyed out instead.
            widget.param.update(end=max(high, low + 1), value=self._capped(name, self.values[name]))
            widget.disabled = high <= low
            self._mark(name)
        self.set({})

    def _mark(self, name: str) -> None:
        """Mark the paper's value on a slider's track, where it is within reach."""
        widget, paper = self.controls[name], self._presets.get("paper", {}).get(name)
        if paper is not None and isinstance(widget, pn.widgets.IntSlider | pn.widgets.FloatSlider):
            share = (paper - widget.start) / (widget.end - widget.start)
            widget.stylesheets = [style.CONTROL, style.notch(share)] if 0 <= share <= 1 else [style.CONTROL]

    def _capped(self, name: str, value: Value) -> Value:
        high, _ = self._caps.get(name, (None, ""))
        return value if high is None or isinstance(value, str | bool) else type(value)(min(value, high))

    def _preset_chosen(self, event: Any) -> None:
        if event.new != OWN and not self._quiet:
            self.set(self._presets[event.new])

    def _turned(self, name: str, value: Any) -> None:
        if isinstance(value, float):
            value = round(value, 9)  # a browser counts steps of 0.05 to 0.30000000000000004
        if self._quiet or value == self.values[name]:
            return
        try:
            # A control that shows what was asked for is left alone: it may have been moved on while this release was on its way.
            self._set({name: value}, turned=name if self._capped(name, value) == value else None)
        except InputError as error:  # a typed value outside the limits: say so, and go back to the last valid one
            self._mirror()
            self._hints[name].object = f'<span role="alert" style="color:{style.BAD}">{html.escape(str(error))}</span>'

    def _take_seed(self, value: int | None) -> None:
        if value is None or value < 0:
            self.seed_box.value = self.seed
        else:
            self.seed = value

    def _locked(self, locked: bool) -> None:
        self.seed_box.disabled = self.dice_button.disabled = locked

    def _mirror(self, turned: str | None = None) -> None:
        """Make every control but the one that was just ``turned``, and every hint, show ``values``."""
        self._quiet = True
        for name, widget in self.controls.items():
            if name != turned:
                widget.value = self.values[name]
            if (
                name != turned and "value_throttled" in widget.param
            ):  # else the next release at the old place would be no change and go unheard
                with param.edit_constant(widget):
                    widget.value_throttled = self.values[name]
            idle = name in self._uses and not self._uses[name](self.values)
            if name not in self._caps:
                widget.disabled = idle
            self._hints[name].object = self._hint(name, idle)
            if name in self.readings:
                self.readings[name].mark(self.values[name], idle, lambda value, name=name: self._capped(name, value))
        match = [name for name, preset in self._presets.items() if self._agrees(preset)]
        self.preset.value = self.preset.value if self.preset.value in match else (match or [OWN])[0]
        self._quiet = False

    def _agrees(self, preset: Mapping[str, Value]) -> bool:
        return all(self._capped(name, preset[name]) == self.values[name] for name in self.controls)

    def _hint(self, name: str, idle: bool) -> str:
        knob, parts = self.knobs[name], []
        paper = self._presets.get("paper", {}).get(name)
        if paper is not None and name not in self.readings:
            mark = "&#9679; paper's value" if paper == self.values[name] else f"&#9675; paper: {html.escape(spelled(paper))}"
            parts.append(f'<b style="color:{style.ACCENT};white-space:nowrap">{mark}</b>')
        if name in self._caps:
            parts.append(html.escape(self._caps[name][1]))
        parts.append("no effect with the present choice" if idle else html.escape(knob.doc))
        title = html.escape("; ".join(filter(None, (knob.doc, knob.limits(), knob.source))), quote=True)
        one_line = "overflow:hidden;white-space:nowrap;text-overflow:ellipsis"
        said = f'<div title="{title}" style="color:{theme.MUTED};font-size:11.5px;{one_line}">{" · ".join(parts)}</div>'
        return said + (f'<div style="font-size:13px;overflow-x:auto">{mathml(knob.equation)}</div>' if knob.equation else "")

    def _sections(self, names: Iterable[str]) -> list[Any]:
        groups: dict[str, list[Any]] = {}
        for name in names:
            under = [found[name] for found in (self._beside, self.readings, self._hints) if name in found]
            groups.setdefault(self.knobs[name].group, []).extend([self.controls[name], *under])
        looks = f"font-size:11px;letter-spacing:.08em;text-transform:uppercase;color:{theme.MUTED};margin:3px 0 2px"
        return [part for group, objects in groups.items() for part in (style.text(f'<h3 style="{looks}">{group}</h3>'), *objects)]

    def __panel__(self) -> pn.viewable.Viewable:
        sections = self._sections([name for name in self.controls if name not in self._folded])
        if self._folded:
            more = self._sections([name for name in self.controls if name in self._folded])
            fold = {"title": "more knobs", "collapsed": True, "stylesheets": [style.EXPANDER]}
            sections.append(pn.Card(*more, **fold, sizing_mode="stretch_width", margin=(4, 0)))
        head = [pn.Row(self.preset, self.reset_button, sizing_mode="stretch_width", margin=(0, 0, 6, 0))] if self._presets else []
        seed = pn.Row(self.seed_box, self.dice_button, self.lock, sizing_mode="stretch_width", margin=0)
        return pn.Column(*head, *sections, seed, sizing_mode="stretch_width", margin=0)
