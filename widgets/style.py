"""One look for every pane: Okabe-Ito colours (safe for colour-blind eyes), one card, one figure base."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import panel as pn

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
INK, MUTED, LINE, PAPER, GROUND = "#17212f", "#566273", "#dde3ea", "#ffffff", "#f3f5f8"
FONT = "'Helvetica Neue', Helvetica, Arial, sans-serif"

TEXT = f"""
:host {{ font-family: {FONT}; color: {INK}; font-size: 13px; line-height: 1.4; }}
p {{ margin: 0 0 4px 0; }} h1, h2, h3 {{ color: {INK}; }}
code {{ background: {GROUND}; border-radius: 3px; padding: 0 3px; }}
"""

CARD = f"""
:host {{ background: {PAPER}; border: 1px solid {LINE}; border-radius: 10px; padding: 12px 14px; box-sizing: border-box; }}
"""

CONTROL = f"""
:host {{ font-family: {FONT}; color: {INK}; font-size: 13px; --primary-color: {BLUE}; --accent-fill-rest: {BLUE}; }}
.bk-input-group label, .bk-slider-title {{ font-weight: 600; color: {INK}; font-size: 12.5px; }}
.bk-input {{ border: 1px solid #8793a3; border-radius: 6px; background: {PAPER}; color: {INK}; font-size: 13px; }}
.bk-input:focus-visible, .bk-btn:focus-visible, .noUi-handle:focus-visible {{
  outline: 3px solid {ORANGE}; outline-offset: 1px; box-shadow: none; }}
.noUi-connect {{ background: {BLUE} !important; }}
.noUi-target {{ background: #d5dce4; border: none; box-shadow: none; height: 6px; }}
.noUi-horizontal .noUi-handle {{ border: 2px solid {BLUE}; background: {PAPER}; border-radius: 50%;
  width: 16px; height: 16px; top: -5px; right: -8px; box-shadow: none; cursor: grab; }}
.noUi-horizontal .noUi-handle::before, .noUi-horizontal .noUi-handle::after {{ display: none; }}
.bk-btn {{ border-radius: 6px; font-weight: 600; font-size: 13px; }}
.bk-btn-primary {{ background: {BLUE} !important; border-color: {BLUE} !important; color: white !important; }}
.bk-btn-default {{ background: {PAPER} !important; border: 1px solid #8793a3 !important; color: {INK} !important; }}
.bk-btn[disabled], .bk-input[disabled], .noUi-target[disabled] {{ opacity: .45; cursor: not-allowed; }}
"""

EXPANDER = f"""
:host(.card) {{ border: none; outline: none; box-shadow: none; background: {PAPER}; }}
.card-header {{ background: {PAPER}; font-family: {FONT}; color: {INK}; font-weight: 700; font-size: 14px; }}
.card-header:focus-visible {{ outline: 3px solid {ORANGE}; outline-offset: 1px; }}
"""

PAGE = f":host {{ background:{GROUND}; padding:16px; border-radius:12px; box-sizing:border-box; container-type:inline-size; }}"

LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
"""Of a figure, above its left edge."""

BOARD = """
:host { display: grid !important; gap: 12px; align-items: start; grid-template-columns: 280px minmax(0, 1.25fr) minmax(0, 1fr); }
@container (max-width: 1180px) { :host { grid-template-columns: 280px minmax(0, 1fr); } ::slotted(.why), .why { grid-column: 1 / -1; } }
@container (max-width: 720px) { :host { grid-template-columns: minmax(0, 1fr); } }
"""


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
        return f'<div role="status"><b style="color:{GREEN}">✓</b> No alarm: {html.escape(otherwise)}.</div>'
    looks = f"border-left:4px solid {VERMILLION};background:#fdf1ea;padding:6px 10px;border-radius:4px;margin-bottom:6px"
    rows = "".join(
        f'<li style="{looks}" data-alarm="{html.escape(name)}"><b>⚠ {html.escape(name)}.</b> {html.escape(words)}</li>'
        for name, words in found.items()
    )
    return f'<ul role="status" style="list-style:none;margin:0;padding:0">{rows}</ul>'


def tile(key: str, value: str, what: str, under: str) -> str:
    """Return a number on a grey tile: what it is above it, what it is measured against below; ``key`` is its id."""
    small = f"font-size:11.5px;color:{MUTED}"
    return (
        f'<div style="flex:1 1 118px;background:{GROUND};border-radius:8px;padding:8px 10px"><div style="{small}">{what}</div>'
        f'<div id="{key}" style="font-size:20px;font-weight:700;white-space:nowrap">{value}</div><div style="{small}">{under}</div></div>'
    )


def heading(title: str, note: str = "") -> pn.pane.HTML:
    """Return the small heading of a card, with one muted line under it."""
    under = f'<div style="color:{MUTED};font-size:12px;margin-top:1px">{note}</div>' if note else ""
    return text(f'<h2 style="font-size:14px;margin:0;font-weight:700">{title}</h2>{under}', margin=(0, 0, 6, 0))


def card(title: str, *objects: Any, note: str = "", **params: Any) -> pn.Column:
    """Return ``objects`` on a white card under a heading."""
    head = [heading(title, note)] if title else []
    return pn.Column(*head, *objects, stylesheets=[CARD], **{"sizing_mode": "stretch_width", "margin": (0, 0, 12, 0), **params})


def title(name: str, note: str, **params: Any) -> pn.pane.HTML:
    """Return the heading of a page."""
    return text(f'<h1 style="font-size:20px;margin:0 0 2px">{name}</h1><p style="color:{MUTED};margin:0">{note}</p>', **params)


def page(*head: Any, left: list[Any], centre: list[Any], right: list[Any]) -> pn.Column:
    """Return a page: its head, and three columns under it; a narrow one puts the right column below, then all in one."""
    columns = [pn.Column(*objects, sizing_mode="stretch_width", margin=0) for objects in (left, centre, right)]
    columns[2].css_classes = ["why"]
    board = pn.Column(*columns, sizing_mode="stretch_width", stylesheets=[BOARD], margin=0)
    return pn.Column(*head, board, sizing_mode="stretch_width", stylesheets=[PAGE], margin=0)


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
    """Return an empty pane for a figure, without the tool bar, as wide as its card."""
    return pn.pane.Plotly(config={"displayModeBar": False, "responsive": True}, sizing_mode="stretch_width", margin=0)


class Static:
    """A figure as it is saved in a notebook: its data for a live viewer, its words for the others (no plotly.js: 5 MB a copy)."""

    def __init__(self, figure: dict[str, Any]) -> None:
        self._figure = figure

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"application/vnd.plotly.v1+json": self._figure, "text/plain": self._figure["layout"]["meta"]["words"]}


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
