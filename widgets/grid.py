"""A grid of two knobs of a page: every pair of values made with the same seeds, seen together, and each cell a way back to the page."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.knobs import Value
from vidistill.lab.grid import Cell, GridLook, cells, grid_steps, line_of, paper_value, parse_values, values_of
from vidistill.lab.steps import Step
from vidistill.widgets import style
from vidistill.widgets.grid_views import alt_text, caption, grid_film, map_figure, same_film, table_html
from vidistill.widgets.player import Player
from vidistill.widgets.run_bar import RunBar

if TYPE_CHECKING:
    from vidistill.widgets.desk import Page

NONE = "none: one row"
SEEDS = 5
BESIDE = ":host { display: grid !important; gap: 12px 20px; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); }"


def static_views(look: GridLook) -> list[Any]:
    """Return a grid for a run without a screen: its clips as one film where there are some, its numbers as a table."""
    from IPython.display import HTML, Image

    table = HTML(f"<p>{html.escape(look.told())}</p>{table_html(look)}")
    if not look.clips:
        return [table]
    player = Player()
    player.load_film(grid_film(look), [caption(look)], alt_text(look))
    return [Image(data=player.apng(), alt=alt_text(look)), table]


class Grid(pn.viewable.Viewer):
    """Pick one knob or two, their values and how many seeds: every pair of values is made, the seeds the same, and shown as one grid.

    Nothing of the page is turned by it. While the page makes a run of its own the grid waits: seconds are measured.

    Args:
        page: whose knobs, runs and numbers these are.
    """

    def __init__(self, page: Page, **params: Any) -> None:
        super().__init__(**params)
        self._page = page
        self.look: GridLook | None = None
        css: dict[str, Any] = {"stylesheets": [style.CONTROL], "sizing_mode": "stretch_width", "margin": (0, 8, 6, 0)}
        names = {control.name: name for name, control in page.panel.controls.items()}
        first, second = [*names.values(), ""][:2]
        self.x = pn.widgets.Select(name="knob across", options=names, value=first, **css)
        self.x_values = pn.widgets.TextInput(name="its values across, with commas", **css)
        self.y = pn.widgets.Select(name="knob down", options={NONE: "", **names}, value=second, **css)
        self.y_values = pn.widgets.TextInput(name="its values down, with commas", **css)
        self.seeds = pn.widgets.IntSlider(name="seeds of each cell", start=1, end=SEEDS, value=1, **css)
        self.bar = RunBar(label="Make the grid")
        self.number = pn.widgets.Select(name="number of the map", options=[], **css)
        self.player = Player()
        self.plot = style.plot()
        self._proposed: dict[str, str] = {}
        self._buttons: dict[tuple[int, int], pn.widgets.Button] = {}
        self._places = pn.GridBox(sizing_mode="stretch_width", margin=(6, 0, 0, 0))
        self._hint, self._told, self._table = style.text(), style.text(), style.text(margin=(8, 0, 0, 0))
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0, "visible": False}
        self._numbers = pn.Column(self.number, self.plot, **wide)
        self._stage = pn.Column(
            self.player,
            style.text('<b style="font-size:12.5px">Show a cell on the page</b>', margin=(8, 0, 0, 0)),
            self._places,
            **wide,
        )
        self._told.object = "Each cell will have the same seeds: two of them differ by the knobs alone."
        self._propose()
        self.bar.run_button.on_click(self.run)
        for select, box in ((self.x, self.x_values), (self.y, self.y_values)):
            select.param.watch(lambda event, box=box: self._propose(box), "value")
        for widget in (self.x, self.x_values, self.y, self.y_values, self.seeds):
            widget.param.watch(self._checked, "value")
        self.number.param.watch(lambda event: self._map(), "value")
        page.panel.param.watch(lambda event: self._propose(), "values")

    async def run(self, *events: Any) -> None:
        """Make the grid that is asked for; one under way is superseded, and what it made stays until the first cell is there."""
        plan, page = self._plan(), self._page
        self._hint.object = ""

        def steps() -> Iterator[Step]:
            return grid_steps(plan(), partial(page.steps, previews=False), page.clip, page.numbers, lambda: page.bar.running)

        await self.bar.run(steps, self.draw)

    def draw(self, look: GridLook) -> None:
        """Show a grid, whole or in part."""
        before, self.look = self.look, look
        self._told.object = f'<div role="status">{html.escape(look.told())}</div>'
        self._table.object = table_html(look)
        self._stage.visible, self._numbers.visible = bool(look.clips), bool(look.names)
        if look.clips and (before is None or not same_film(before, look)):
            self.player.load_film(grid_film(look), [caption(look)], alt_text(look))
        self._offer(look)
        self.number.param.update(
            options={name.replace("_", " "): name for name in look.names},
            value=self.number.value if self.number.value in look.names else next(iter(look.names), None),
        )
        self._map()

    def _map(self) -> None:
        if self.look is not None and self.number.value in self.look.names:
            self.plot.object = map_figure(self.look, self.number.value)

    def _offer(self, look: GridLook) -> None:
        """Offer the cells that have a clip; the buttons stay where they are while a grid fills, so that none loses the focus."""
        places = {(one.cell.row, one.cell.column): one for one in look.made}
        if list(places) != list(self._buttons):
            small: dict[str, Any] = {"sizing_mode": "stretch_width", "stylesheets": [style.CONTROL], "margin": 2}
            self._buttons = {place: pn.widgets.Button(name=f"Show {one.cell.name}", **small) for place, one in places.items()}
            for place, button in self._buttons.items():
                button.on_click(self._presser(*place))
            self._places.param.update(objects=list(self._buttons.values()), ncols=len(look.columns))
        for place, button in self._buttons.items():
            button.disabled = places[place].clip is None

    def _presser(self, row: int, column: int) -> Callable[[Any], None]:
        return lambda event: self.recall(row, column)

    def recall(self, row: int, column: int) -> None:
        """Set the page as it was for a cell, counted from 0, and show its first clip there; without a clip nothing happens."""
        for one in self.look.made if self.look else ():
            if (one.cell.row, one.cell.column) == (row, column) and one.clip is not None:
                self._page.recall(one.cell.asked(one.cell.seeds[0]), one.look)

    def _propose(self, *boxes: pn.widgets.TextInput) -> None:
        """Write values into ``boxes``, or into those in which nobody wrote: the value now and the paper's are among them."""
        for name, box in ((self.x.value, self.x_values), (self.y.value, self.y_values)):
            if box in boxes or (not boxes and box.value == self._proposed.get(box.name, "")):
                self._proposed[box.name] = box.value = line_of(self._values(name)) if name else ""
            box.disabled = not name and box is self.y_values

    def _values(self, name: str) -> list[Value]:
        """Propose values of a knob that the page allows now; others may be written, for what allows them may be the grid's other knob."""
        knobs, panel = self._page.knobs, self._page.panel
        end = getattr(panel.controls[name], "end", None)
        allowed = knobs[name] if end is None else replace(knobs[name], high=end)
        return values_of(allowed, around=panel.values[name], paper=paper_value(knobs, name))

    def _plan(self) -> Callable[[], list[Cell]]:
        """Return what gives the cells that are asked for now."""
        asked, x, y = self._page.asked(), self.x.value, self.y.value
        across, down, seeds = self.x_values.value, self.y_values.value, [asked["seed"] + k for k in range(self.seeds.value or 1)]
        knobs = self._page.knobs
        return lambda: cells(asked, x, parse_values(knobs[x], across), y or None, parse_values(knobs[y], down) if y else (), seeds)

    async def _checked(self, event: Any) -> None:
        if (hint := await self.bar.hint(self._plan())) is not None:
            self._hint.object = hint

    def __panel__(self) -> pn.viewable.Viewable:
        row: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        return pn.Column(
            pn.Row(self.x, self.x_values, **row),
            pn.Row(self.y, self.y_values, **row),
            self.seeds,
            self._hint,
            self.bar,
            self._told,
            pn.Column(self._stage, self._numbers, stylesheets=[BESIDE], sizing_mode="stretch_width", margin=(8, 0, 0, 0)),
            self._table,
            **row,
        )
