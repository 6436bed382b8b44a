"""One look for every pane: Okabe-Ito colours (safe for colour-blind eyes), one card, one figure base.

What a browser draws has the colours of ``theme``, which follow light and dark; the fixed INK, MUTED, LINE and PAPER are for pictures and
for figures, whose saved copies stand on white. A live figure's are exchanged for those of the theme by a stylesheet, without a new drawing.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import panel as pn

from vidistill.widgets import theme
from vidistill.widgets.calm import Calm
from vidistill.widgets.names import Names

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
INK, MUTED, LINE, PAPER = theme.LIGHT["ink"], theme.LIGHT["muted"], theme.LIGHT["line"], theme.LIGHT["paper"]
ACCENT, GOOD, BAD = theme.mixed(BLUE, 55, theme.INK), theme.mixed(GREEN, 60, theme.INK), theme.mixed(VERMILLION, 60, theme.INK)
"""Text in blue, green and vermillion, darkened or lightened until it can be read on a card."""
ALARM = theme.mixed(VERMILLION, 10, theme.PAPER)
"""Under a failure."""
FONT = "'Helvetica Neue', Helvetica, Arial, sans-serif"

TEXT = f"""
:host {{ font-family: {FONT}; color: {theme.INK}; font-size: 13px; line-height: 1.4; }}
p {{ margin: 0 0 4px 0; }} h1, h2, h3 {{ color: {theme.INK}; }}
code {{ background: {theme.GROUND}; border-radius: 3px; padding: 0 3px; }}
"""

CARD = f"""
:host {{ background: {theme.PAPER}; border: 1px solid {theme.LINE}; border-radius: 10px; padding: 12px 14px; box-sizing: border-box; }}
"""

TRACK = theme.mixed(theme.INK, 20, theme.PAPER)
CONTROL = f"""
:host {{ font-family: {FONT}; color: {theme.INK}; font-size: 13px; --primary-color: {BLUE}; --accent-fill-rest: {BLUE};
  --color: {theme.INK}; }}
.bk-input-group label, .bk-slider-title {{ font-weight: 600; color: {theme.INK}; font-size: 12.5px; }}
.bk-input {{ border: 1px solid {theme.EDGE}; border-radius: 6px; background: {theme.PAPER}; color: {theme.INK}; font-size: 13px; }}
select.bk-input {{ background-image: none !important; appearance: auto !important; }}
.bk-input:focus-visible, .bk-btn:focus-visible, .noUi-handle:focus-visible {{
  outline: 3px solid {ORANGE}; outline-offset: 1px; box-shadow: none; }}
.noUi-connect {{ background: {BLUE} !important; }}
.noUi-target {{ background: {TRACK}; border: none; box-shadow: none; height: 6px; }}
.noUi-horizontal .noUi-handle {{ border: 2px solid {BLUE}; background: {theme.PAPER}; border-radius: 50%;
  width: 16px; height: 16px; top: -5px; right: -8px; box-shadow: none; cursor: grab; }}
.noUi-horizontal .noUi-handle::before, .noUi-horizontal .noUi-handle::after {{ display: none; }}
.bk-btn {{ border-radius: 6px; font-weight: 600; font-size: 13px; }}
.bk-btn-primary {{ background: {BLUE} !important; border-color: {BLUE} !important; color: white !important; }}
.bk-btn-default {{ background: {theme.PAPER} !important; border: 1px solid {theme.EDGE} !important; color: {theme.INK} !important; }}
.bk-input[disabled] {{ background: {theme.PAPER}; color: {theme.INK}; }}
.bk-btn[disabled], .bk-input[disabled], .noUi-target[disabled] {{ opacity: .45; cursor: not-allowed; }}
"""

EXPANDER = f"""
:host(.card) {{ border: none; outline: none; box-shadow: none; background: {theme.PAPER}; }}
.card-header {{ background: {theme.PAPER}; font-family: {FONT}; color: {theme.INK}; font-weight: 700; font-size: 14px; }}
.card-header:focus-visible {{ outline: 3px solid {ORANGE}; outline-offset: 1px; }}
"""

SWITCH = f"""
label {{ font: 12px {FONT}; color: {theme.MUTED}; white-space: nowrap; }}
select {{ font: inherit; color: {theme.INK}; background: {theme.PAPER}; border: 1px solid {theme.EDGE}; border-radius: 6px;
  padding: 2px 4px; }}
select:focus-visible {{ outline: 3px solid {ORANGE}; outline-offset: 1px; }}
"""

PAGE = f"""
:host {{ background: {theme.GROUND}; padding: 16px; border-radius: 12px; box-sizing: border-box; container-type: inline-size;
  --design-background-text-color: {theme.INK}; --design-background-color: {theme.PAPER}; }}
"""


def _live() -> str:
    """Return the rules that exchange a figure's fixed colours; what stands on a colour of its own keeps its ink."""
    rules = [".main-svg { background: transparent !important; }"]
    for fixed, live in ((INK, theme.INK), (MUTED, theme.MUTED), (LINE, theme.LINE), (PAPER, theme.PAPER)):
        red, green, blue = bytes.fromhex(fixed[1:])
        rules += [
            f':is([style*="{what}: rgb({red}, {green}, {blue})"], [style*="{what}:{fixed}"]):not(.bartext, .contourlayer *, .hoverlayer *)'
            f" {{ {what}: {live} !important; }}"
            for what in ("fill", "stroke")
        ]
    return "\n".join(rules)


FIGURE = _live()

CELL = f"padding:4px 10px 4px 0;border-bottom:1px solid {theme.LINE};text-align:left;vertical-align:top"
"""Of a table."""

LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
"""Of a figure, above its left edge."""

BOARD = """
:host { display: grid !important; gap: 12px; align-items: start; grid-template-columns: 280px minmax(0, 1.25fr) minmax(0, 1fr); }
@container (max-width: 1180px) { :host { grid-template-columns: 280px minmax(0, 1fr); } ::slotted(.why), .why { grid-column: 1 / -1; } }
@container (max-width: 720px) { :host { grid-template-columns: minmax(0, 1fr); } }
"""


def notch(share: float) -> str:
    """Return the rule that marks a place on a slider's track, at this ``share`` of its length."""
    looks = f"position: absolute; left: calc({100 * share:.4g}% - 1px); top: -5px; width: 2px; height: 16px; background: {theme.INK}"
    return f".noUi-target::after {{ content: ''; {looks}; pointer-events: none; }}"


def text(words: str = "", **params: Any) -> pn.pane.HTML:
    """Return a text pane, HTML, in the house font."""
    return pn.pane.HTML(words, stylesheets=[TEXT], **{"sizing_mode": "stretch_width", "margin": 0, **params})


def alert(words: str) -> str:
    """Return a line that says what is wrong, marked by a bar at its left."""
    looks = f"border-left:4px solid {VERMILLION};padding-left:8px;margin-bottom:8px"
    return f'<div role="alert" style="{looks}">{html.escape(words)}</div>'


def alarms(found: Mapping[str, str], otherwise: str) -> str:
    """Return failures as a list, each with a sign and its name, or that there is none and what is well ``otherwise``."""
    if not found:
        return f'<div role="status"><b style="color:{GOOD}">✓</b> No alarm: {html.escape(otherwise)}.</div>'
    looks = f"border-left:4px solid {VERMILLION};background:{ALARM};padding:6px 10px;border-radius:4px;margin-bottom:6px"
    rows = "".join(
        f'<li style="{looks}" data-alarm="{html.escape(name)}"><b>⚠ {html.escape(name)}.</b> {html.escape(words)}</li>'
        for name, words in found.items()
    )
    return f'<ul role="status" style="list-style:none;margin:0;padding:0">{rows}</ul>'


def tile(key: str, value: str, what: str, under: str) -> str:
    """Return a number on a grey tile: what it is above it, what it is measured against below; ``key`` is its id."""
    small = f"font-size:11.5px;color:{theme.MUTED}"
    return (
        f'<div style="flex:1 1 118px;background:{theme.GROUND};border-radius:8px;padding:8px 10px"><div style="{small}">{what}</div>'
        f'<div id="{key}" style="font-size:20px;font-weight:700;white-space:nowrap">{value}</div><div style="{small}">{under}</div></div>'
    )


def heading(title: str, note: str = "") -> pn.pane.HTML:
    """Return the small heading of a card, with one muted line under it."""
    under = f'<div style="color:{theme.MUTED};font-size:12px;margin-top:1px">{note}</div>' if note else ""
    return text(f'<h2 style="font-size:14px;margin:0;font-weight:700">{title}</h2>{under}', margin=(0, 0, 6, 0))


def card(title: str, *objects: Any, note: str = "", **params: Any) -> pn.Column:
    """Return ``objects`` on a white card under a heading."""
    head = [heading(title, note)] if title else []
    return pn.Column(*head, *objects, stylesheets=[CARD], **{"sizing_mode": "stretch_width", "margin": (0, 0, 12, 0), **params})


def title(name: str, note: str, **params: Any) -> pn.Row:
    """Return the heading of a page, at its right the switch between light and dark."""
    words = text(f'<h1 style="font-size:20px;margin:0 0 2px">{name}</h1><p style="color:{theme.MUTED};margin:0">{note}</p>')
    return pn.Row(words, theme.Switch(margin=(0, 8), stylesheets=[SWITCH]), **{"sizing_mode": "stretch_width", "margin": 0, **params})


def page(*head: Any, left: list[Any], centre: list[Any], right: list[Any]) -> pn.Column:
    """Return a page: its head, and three columns under it; a narrow one puts the right column below, then all in one.

    What is written beside a control is its name for a screen reader too.
    """
    columns = [pn.Column(*objects, sizing_mode="stretch_width", margin=0) for objects in (left, centre, right)]
    columns[2].css_classes = ["why"]
    board = pn.Column(*columns, sizing_mode="stretch_width", stylesheets=[BOARD], margin=0)
    unseen = [kind(width=0, height=0, margin=0) for kind in (Names, Calm)]
    return pn.Column(*head, board, *unseen, sizing_mode="stretch_width", stylesheets=[PAGE], margin=0)


def figure(title: str, words: str, height: int, data: list[dict[str, Any]], **layout: Any) -> dict[str, Any]:
    """Return a plotly figure in the house style, as the plain JSON that plotly draws; ``words`` say what it shows to who cannot see it.

    Plain, because plotly's figure classes check every property, half a second in all, and a released slider has less than that.
    """
    base = {
        "height": height,
        "meta": {"words": f"{title}: {words}"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "autosize": True,
    }
    return {"data": data, "layout": base | layout}


def axis(words: str, **more: Any) -> dict[str, Any]:
    """Return an axis with its title."""
    return {"title": {"text": words, "standoff": 4}, "gridcolor": LINE, "zeroline": False, **more}


def line(
    name: str, x: Sequence[float], y: Sequence[float | None], colour: str, symbol: str, dash: str, hover: str, **more: Any
) -> dict[str, Any]:
    """Return a curve with a marker and a dash of its own, so that its colour is never all that tells it from another."""
    return {
        "type": "scatter",
        "name": name,
        "x": list(x),
        "y": list(y),
        "mode": "lines+markers",
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"symbol": symbol, "size": 6, "color": colour},
        "cliponaxis": False,
        "hovertemplate": f"{hover}<extra></extra>",
        **more,
    }


def note(text: str, **place: Any) -> dict[str, Any]:
    """Return words to be written on a figure, by default from its left edge."""
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "showarrow": False, "font": {"size": 12}} | place


def plot() -> pn.pane.Plotly:
    """Return an empty pane for a figure, without the tool bar, as wide as its card; it follows light and dark."""
    config = {"displayModeBar": False, "responsive": True}
    return pn.pane.Plotly(config=config, sizing_mode="stretch_width", margin=0, stylesheets=[FIGURE])


class Static:
    """A figure as it is saved in a notebook: its data for a live viewer, its words for the others (no plotly.js: 5 MB a copy)."""

    def __init__(self, figure: dict[str, Any]) -> None:
        self._figure = figure

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"application/vnd.plotly.v1+json": self._figure, "text/plain": self._figure["layout"]["meta"]["words"]}


def table(head: str, rows: str) -> str:
    """Return a table of HTML rows; ``head`` is the cells above its columns, of which the first has none."""
    return f'<table style="border-collapse:collapse;width:100%;font-size:12.5px"><tr><td style="{CELL}"></td>{head}</tr>{rows}</table>'


def measures(said: Mapping[str, str], numbers: Mapping[str, Mapping[str, float | None]], what: Mapping[str, tuple[str, str, str]]) -> str:
    """Return a table of numbers, one column a clip and one row a measure.

    Args:
        said: clip -> its heading.
        numbers: measure -> clip -> value.
        what: measure -> its name, how it is measured, the format of its values.
    """
    head = "".join(f'<th scope="col" style="{CELL}">{html.escape(words)}</th>' for words in said.values())
    rows = "".join(
        f'<tr><th scope="row" style="{CELL};font-weight:600">{name}'
        + (f'<div style="font-weight:400;font-size:11.5px;color:{theme.MUTED}">{how}</div></th>' if how else "</th>")
        + "".join(f'<td style="{CELL}">{number(numbers[key][clip], form)}</td>' for clip in said)
        + "</tr>"
        for key, (name, how, form) in what.items()
    )
    return table(head, rows)


def number(value: float | None, form: str = ".2f") -> str:
    """Return a number, or a dash where there is none."""
    return "–" if value is None else f"{value:{form}}"


def size(count: float) -> str:
    """Return a byte count in binary units, e.g. ``12.3 KiB``: what the papers call MB is MiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
