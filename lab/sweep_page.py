"""The page of a sweep: a grid of clips with what each point scores and gains, without JavaScript, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from vidistill.files import write_atomic
from vidistill.knobs import Value
from vidistill.lab.apng import film_as_apng
from vidistill.lab.cells import folder_of, point_name
from vidistill.lab.first_clip import place_of
from vidistill.lab.grid import told
from vidistill.lab.report import html_document, spread
from vidistill.lab.sweep_table import Point, base_line
from vidistill.lab.sweeps import Done

SIGNS = {"higher": "▲", "lower": "▼", "cannot tell": "○"}
"""Verdict of a difference -> its sign; its word stands beside it."""

LOOK = """
.grid td, .grid th { vertical-align: top; text-align: center; padding: .6rem .8rem; }
.grid tbody th { text-align: right; font-weight: 600; }
.grid img { width: 128px; image-rendering: pixelated; border-radius: 3px; display: block; margin: 0 auto .3rem; }
.grid a { color: inherit; }
.grid .base { outline: 2px solid currentColor; outline-offset: -2px; border-radius: 5px; }
.higher { color: #0072B2; } .lower { color: #D55E00; } .failed { font-weight: 600; }
@media (prefers-color-scheme: dark) { .higher { color: #56B4E9; } .lower { color: #E69F00; } }
""".strip()


def write_page(out: Path, done: Done, arm: str, points: Sequence[Point]) -> None:
    """Write ``out/index.html``, and the clips that it shows as ``out/pictures/<arm>-<cell>.png``."""
    shown = {point.first.hash: picture for point in points if (picture := _picture(out, point, arm))}
    page = html_page(done, arm, points, shown)
    write_atomic(out / "index.html", lambda temporary: temporary.write_text(page, encoding="utf-8"))


def _picture(out: Path, point: Point, arm: str) -> str | None:
    """Make the moving picture of a point from the clip that its first cell kept; return where it lies, None where there is no clip."""
    clip = place_of(folder_of(out, point.first), arm)
    if not clip.is_file():
        return None
    name = f"pictures/{arm}-{point.first.hash}.png"
    payload = film_as_apng(clip.read_bytes())
    write_atomic(out / name, lambda temporary: temporary.write_bytes(payload))
    return name


def html_page(done: Done, arm: str, points: Sequence[Point], pictures: dict[str, str]) -> str:
    """Return the page.

    Args:
        done: the sweep; its first knob is across, the second down, and there is a block for each combination of the others.
        arm, points: see :func:`vidistill.lab.sweep_table.points_of`.
        pictures: hash of a point's first cell -> its picture.
    """
    sweep = done.sweep
    knobs = list(sweep.grid)
    title = f"{sweep.paper}: {' x '.join(knobs)}"
    score = done.score
    about = f"{score['title']} of {arm}, {score['heading']}, and the first clip where one was kept." if score else "No cell is finished."
    blocks = [f"<h1>{escape(title)}</h1>", f"<p class='note'>{escape(about)}</p>"]
    blocks += [f"<p class='soft'>Mean and 95&nbsp;% interval over seeds; {escape(base_line(sweep))}.</p>"]
    further = sorted(points, key=lambda point: [sweep.grid[name].index(point.turned[name]) for name in knobs[2:]])
    for rest, block in groupby(further, key=lambda point: {name: point.turned[name] for name in knobs[2:]}):
        blocks += [f"<h2>{escape(point_name(rest))}</h2>"] if rest else []
        blocks += [_grid(done, list(block), pictures)]
    if done.failed:
        names = {cell.hash: cell.name for cell in sweep.cells}
        items = [f"<li class='note'>{escape(names[hash])}: {escape(line)}</li>" for hash, line in done.failed.items()]
        blocks += [f"<h2>Failed cells ({len(items)})</h2>", "<ul>", *items, "</ul>"]
    blocks += ["<details><summary>Every other knob</summary><ul>"]
    blocks += [f"<li>{escape(name)}: {escape(told(value))}</li>" for name, value in sweep.values.items() if name not in knobs]
    blocks += ["</ul></details>"]
    return html_document(title, "\n".join(blocks), LOOK)


def _grid(done: Done, points: Sequence[Point], pictures: dict[str, str]) -> str:
    """Return a block: the first knob across, the second, where there is one, down."""
    x, y = [*done.sweep.grid, None][:2]
    assert x is not None
    down: list[Value | None] = list(done.sweep.grid[y]) if y else [None]
    at = {(point.turned[x], point.turned[y] if y else None): point for point in points}
    head = "".join(f"<th scope=col>{escape(x)} {escape(told(value))}</th>" for value in done.sweep.grid[x])
    rows = []
    for value in down:
        label = f"{y} {told(value)}" if y and value is not None else ""
        cells = "".join(_cell(done, at[across, value], pictures) for across in done.sweep.grid[x])
        rows.append(f"<tr><th scope=row>{escape(label)}</th>{cells}</tr>")
    return (
        f"<div class='wide'><table class='grid'><thead><tr><td></td>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _cell(done: Done, point: Point, pictures: dict[str, str]) -> str:
    form = f".{done.score.get('digits', 1)}f"
    parts = []
    if picture := pictures.get(point.first.hash):
        parts.append(f"<img src='{escape(picture)}' alt='first clip at {escape(point_name(point.turned))}' loading=lazy>")
    report = f"cells/{point.first.hash}/report.html"
    score = spread(point.score, form)
    parts.append(f"<a href='{report}'>{score}</a>" if point.first.hash in done.arms else score)
    if point.base:
        parts.append("<br><span class='soft'>base</span>")
    elif point.difference:
        verdict = point.difference["verdict"]
        change = spread(point.difference, form, sign=True)
        parts.append(f"<br><span class='{verdict.replace(' ', '-')}'>{SIGNS[verdict]} {change} {verdict}</span>")
    if point.failed:
        parts.append(f"<br><span class='failed'>✕ {point.failed} of {len(done.sweep.seeds)} failed</span>")
    return f"<td{' class=base' * point.base}>{''.join(parts)}</td>"
