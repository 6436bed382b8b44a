"""The page of a suite: every claim with its control, interval and verdict, in one HTML file that needs no script to be read.

Where scripts run, a plotly chart sets all effects beside each other; the same numbers are in the tables, drawn as small pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vidistill.lab.report import html_document, html_table
from vidistill.lab.standing import ABSENT, Standing, claim_rows, standings, summary_rows

LOOK = {
    "direction holds": ("#0072B2", "circle", "holds"),
    "direction does not hold": ("#D55E00", "x", "does not hold"),
    "cannot tell": ("#999999", "square", "cannot tell"),
}
"""State -> colour (Okabe and Ito), mark and word."""

HALF, TALL = 60, 16
"""Half the width and the height of an interval's picture, pixels."""

DRAWN = "difference [95 %]"
"""The column in front of which the pictures stand."""

FAR = 10.0
"""Standard deviations at which the chart ends; what lies beyond stands at its edge."""

STYLE = """
body { max-width: 100rem; }
table { white-space: normal; }
td svg { max-width: none; height: 16px; } td, th { min-width: 3.5rem; } td:first-child, td:last-child { min-width: 16rem; }
""".strip()


def status_page(status: Mapping[str, Any]) -> str:
    """Return the page of what :func:`vidistill.lab.suite.run_suite` returns."""
    found = {paper: standings(paper, held | {"quick": status["quick"]}) for paper, held in status["papers"].items()}
    source = status["commit"]["commit"][:12] + "+" * status["commit"]["dirty"] if status["commit"] else "no commit"
    head = f"Tier {status['tier']}{', quick' * status['quick']}, {status['started']} to {status['finished']}, commit {source}."
    blocks = ["<h1>Where every claim stands</h1>", f"<p>{escape(head)}</p>", *_legend(), _table(*summary_rows(found))]
    if status["failed"]:
        blocks += ["<h2>Failed</h2>", "<ul>", *(f"<li>{escape(line)}</li>" for line in status["failed"]), "</ul>"]
    blocks.append(_chart(found))
    for paper, rows in found.items():
        header, cells = claim_rows(rows)
        pictures = [_picture(one) for one in rows]
        blocks += [f"<h2>{escape(paper)}</h2>", _cost(status["papers"][paper]["runs"]), _table(header, cells, pictures)]
    return html_document("where every claim stands", "\n".join(blocks), STYLE)


def _legend() -> list[str]:
    marks = " &nbsp; ".join(f"{_mark(state, 8, 8, 16)} {word}" for state, (_, _, word) in LOOK.items())
    rule = "A direction holds, or does not, where the whole 95 % interval of paired differences over five seeds or more lies on one side."
    return [f"<p class='note'>{rule} A toy's number is never compared with a published one.</p>", f"<p>{marks}</p>"]


def _mark(state: str, x: float, y: float, size: int) -> str:
    return f"<svg width='{size}' height='{size}' aria-hidden='true'>{_shape(state, x, y)}</svg>"


def _shape(state: str, x: float, y: float) -> str:
    colour, mark, _ = LOOK[state]
    if mark == "circle":
        return f"<circle cx='{x:.1f}' cy='{y}' r='5' fill='{colour}'/>"
    if mark == "x":
        return f"<path d='M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8' stroke='{colour}' stroke-width='2.5'/>"
    return f"<rect x='{x - 4:.1f}' y='{y - 4}' width='8' height='8' fill='{colour}'/>"


def _picture(one: Standing) -> str:
    """Return the interval of a difference around 0 as an SVG, each at its own scale."""
    if not one.row or one.state not in LOOK:
        return ""
    found = one.row["difference"]
    low, high = (found["mean"] if found[end] is None else found[end] for end in ("low", "high"))
    scale = HALF * 0.85 / (max(abs(low), abs(high)) or 1.0)
    x = {name: HALF + scale * value for name, value in (("low", low), ("mean", found["mean"]), ("high", high))}
    line = f"<path d='M{x['low']:.1f} {TALL / 2}H{x['high']:.1f}' stroke='{LOOK[one.state][0]}' stroke-width='2'/>"
    zero = f"<path d='M{HALF} 0V{TALL}' stroke='currentColor' stroke-opacity='.4'/>"
    label = f"{LOOK[one.state][2]}: {found['mean']:+.4g} [{low:+.4g}, {high:+.4g}]"
    head = f"<svg role='img' aria-label='{escape(label)}' width='{2 * HALF}' height='{TALL}'>"
    return f"{head}{zero}{line}{_shape(one.state, x['mean'], TALL / 2)}</svg>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], pictures: Sequence[str] = ()) -> str:
    names, cells = list(header), [[escape(cell) for cell in row] for row in rows]
    if pictures:
        place = names.index(DRAWN)
        names.insert(place, "drawn")
        for row, picture in zip(cells, pictures, strict=True):
            row.insert(place, picture)
    return html_table(names, cells)


def _cost(runs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, run in runs.items():
        spent = f"{run['seconds'] / 60:.1f} min, {run['peak_bytes'] / 2**20:,.0f} MiB"
        lines.append(f"<li>{escape(name)}: {spent}, <code>{escape(run['command'])}</code></li>")
    return "\n".join(["<ul>", *lines, "</ul>"])


def _chart(found: Mapping[str, Sequence[Standing]]) -> str:
    """Return every effect in standard deviations of its paired differences as a plotly chart; the tables hold the same without a script."""
    import plotly.graph_objects as go

    figure, names = go.Figure(), []
    for paper, rows in found.items():
        for one in rows:
            if one.row and one.state != ABSENT and one.row["difference"]["std"]:
                names.append((paper, one))
    for state, (colour, mark, word) in LOOK.items():
        chosen = [(place, one) for place, (_, one) in enumerate(names) if one.state == state]
        effects = [one.row["difference"] for _, one in chosen if one.row]
        figure.add_scatter(
            x=[min(FAR, max(-FAR, effect["mean"] / effect["std"])) for effect in effects],
            customdata=[effect["mean"] / effect["std"] for effect in effects],
            y=[place for place, _ in chosen],
            error_x={"array": [(effect["high"] - effect["mean"]) / effect["std"] for effect in effects], "thickness": 1.5, "color": colour},
            **{"mode": "markers", "name": word, "marker": {"color": colour, "symbol": mark, "size": 9}},
            text=[f"{one.card.id}: {one.card.claim}" for _, one in chosen],
            hovertemplate="%{text}<br>%{customdata:.2f} standard deviations<extra></extra>",
        )
    figure.add_vline(x=0, line_width=1)
    axis = {
        "tickvals": list(range(len(names))),
        "ticktext": [one.card.id for _, one in names],
        "range": [len(names), -1],
        "automargin": True,
    }
    figure.update_layout(
        title="Effect of each claim, in standard deviations of its paired differences, with the 95 % interval",
        xaxis={"range": [-1.05 * FAR, 1.05 * FAR]},
        yaxis=axis,
        height=180 + 18 * len(names),
        template="plotly_white",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom"},
    )
    drawn = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}, div_id="effects")
    without = "<noscript><p>The chart of all effects needs scripts; the tables hold every number, drawn as well.</p></noscript>"
    return f"<section id='chart'>{drawn}\n{without}</section>"
