"""A finished run along its steps, and where the next one leaves it: a fork keeps the steps up to one and goes on with other knobs."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import panel as pn
import param

from vidistill.lab.previews import Preview
from vidistill.widgets import style, theme
from vidistill.widgets.strip import uri

SIZE = 56  # pixels of a preview


class Timeline(pn.viewable.Viewer):
    """The previews of the run that is shown, a slider along its steps, and two buttons: fork after a step, and leave the fork.

    ``kept`` stays when the forked run is there: it has the same first steps, and every further turn of a knob forks after them, until
    another step is chosen or the fork is left.

    Args:
        fork: called with ``kept`` when a person changes it.
    """

    kept = param.Integer(default=0, bounds=(0, None), doc="steps that the next run keeps of the run that is shown; 0: it begins anew")

    def __init__(self, fork: Callable[[int], Any], **params: Any) -> None:
        super().__init__(**params)
        self._fork = fork
        self._name, self._steps, self._until, self._left = "", 0, "", ""
        self._pictures: dict[int, str] = {}
        css: dict[str, Any] = {"disabled": True, "stylesheets": [style.CONTROL]}
        self.slider = pn.widgets.IntSlider(name="fork after step", start=1, end=2, sizing_mode="stretch_width", margin=(6, 0), **css)
        self.button = pn.widgets.Button(margin=0, **css)
        self.leave_button = pn.widgets.Button(name="From the beginning again", margin=(0, 0, 0, 8), **css)
        self._row, self._words = style.text(), style.text(margin=(6, 0, 0, 0))
        self.slider.param.watch(lambda event: self._draw(), "value")
        self.button.on_click(lambda event: self._press(self._at))
        self.leave_button.on_click(lambda event: self._press(0))
        self._draw()

    def fill(self, name: str, formed: Sequence[Preview], steps: int, until: str = "") -> None:
        """Show a finished run; a fork is left where the run has too few steps for it.

        Args:
            name: what it is called, as in "run 3".
            formed: previews of the clip that is forked, in the order of their steps; empty while they are not made.
            steps: N.
            until: its own knobs by step, see :mod:`vidistill.lab.until`; "" where it is no fork.
        """
        at, last = self._at if self._name else steps // 2, max(steps - 1, 1)
        self._name, self._steps, self._until = name, steps, until
        self._pictures = {one.step: picture(one) for one in formed}
        self.slider.param.update(end=max(last, 2), value=min(max(at, 1), last), disabled=steps < 3)  # a slider needs two different ends
        self.button.disabled = steps < 2
        if self.kept > last:
            self.leave(f"{name} has {steps} steps, and the fork was after step {self.kept}: the next run begins from the beginning.")
        self._draw()

    def keep(self, step: int) -> None:
        """Let the next run keep the steps up to one of the run that is shown, 0 none; for a run that is shown again."""
        self._left, self.kept = "", step
        self.slider.value = step or self._at
        self._draw()

    def leave(self, why: str) -> None:
        """Leave the fork for a reason, which is shown until the next choice."""
        self._left, self.kept = why, 0
        self._draw()

    @property
    def _at(self) -> int:
        return int(self.slider.value or 1)

    def _press(self, step: int) -> None:
        self.keep(step)
        self._fork(step)

    def _draw(self) -> None:
        here = self.kept == self._at
        self.leave_button.disabled = not self.kept
        self.button.param.update(
            name=f"{'✓ Forked' if here else 'Fork'} after step {self._at}", button_type="primary" if here else "default"
        )
        self._row.object = row_html(self._pictures, self._at if self._steps > 1 else 0)
        left = style.alert(self._left) if self._left else ""
        self._words.object = f'{left}<div role="status">{html.escape(self._said())}</div>'

    def _said(self) -> str:
        """Return what the next run will be, in words."""
        if not self._name:
            return "A finished run can be forked here."
        if self._steps < 2:
            return f"{self._name.capitalize()} has one step: there is nothing to fork."
        own = f"{self._name.capitalize()} had other knobs on the way, until step {self._until}. " if self._until else ""
        if not self.kept:
            return f"{own}Forked, the next run keeps {_steps(self._at)} of {self._name} and goes on with the knobs as they are then."
        other = "" if self.kept == self._at else f" Or fork after step {self._at} instead."
        return f"{own}The next run keeps {_steps(self.kept)} of {self._name} and goes on with the knobs as they are now: turn one.{other}"

    def __panel__(self) -> pn.viewable.Viewable:
        buttons = pn.Row(self.button, self.leave_button, sizing_mode="stretch_width", margin=0)
        return pn.Column(self._row, self.slider, buttons, self._words, sizing_mode="stretch_width", margin=0)


def picture(one: Preview) -> str:
    """Return a preview as an image."""
    said = html.escape(f"{one.name} as predicted after step {one.step} of {one.steps}")
    return f'<img src="{uri(one.picture)}" width="{SIZE}" height="{SIZE}" style="display:block;border-radius:3px" alt="{said}">'


def row_html(pictures: Mapping[int, str], kept: int) -> str:
    """Return the pictures of steps in a row; those that a fork after a step keeps have a frame and say so, the others have dashes."""
    figures = []
    looks = f"margin:0;text-align:center;font-size:11.5px;line-height:1.3;color:{theme.MUTED}"
    for step, image in pictures.items():
        frame, word = (f"3px solid {style.BLUE}", "✓ kept") if step <= kept else (f"3px dashed {theme.EDGE}", "made anew")
        figures.append(
            f'<figure style="{looks}"><div style="border:{frame};border-radius:6px">{image}</div>'
            f'<figcaption><b style="color:{theme.INK}">step {step}</b><br>{word}</figcaption></figure>'
        )
    shown = "".join(figures) or "The previews of its steps follow."
    return f'<div style="display:flex;flex-wrap:wrap;gap:4px;min-height:{SIZE + 40}px">{shown}</div>'


def _steps(last: int) -> str:
    return "step 1" if last == 1 else f"steps 1 to {last}"
