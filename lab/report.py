"""The report: ``report.json`` for machines, a table on the console, and one self-contained HTML page without JavaScript."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill.files import save_json, write_atomic
from vidistill.types import Report

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 2
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")

PARTS = ("core", "factors", "pixels", "codec", "soft_labels", "labels", "header")
"""The parts of a stored set, in the order of every byte table; a set has some of them."""

PAYLOAD = PARTS[:3]
"""Those that are the clips themselves."""

COLUMNS = {
    **{"error": ("error", ".4f"), "psnr": ("PSNR", ".2f")},
    **{"agreement": ("teacher agrees %", ".0f"), "entropy": ("entropy", ".2f")},
    **{"background": ("background", ".4f"), "quality": ("quality", ".3f"), "smoothness": ("smoothness", ".4f"), "flow": ("flow px", ".2f")},
    **{"drift": ("drift %", ".1f"), "motion": ("motion", ".2f"), "fidelity": ("fidelity %", ".1f"), "rare": ("rare %", ".1f")},
    **{"evaluations": ("evaluations", ".0f"), "seconds": ("seconds", ".2f")},
    **{"pace": ("motion %", ".0f"), "diversity": ("diversity %", ".0f"), "gap": ("to real %", ".0f"), "hits": ("hits %", ".0f")},
    **{"coverage": ("modes held %", ".0f"), "precision": ("on a mode %", ".1f"), "kl": ("KL", ".3f"), "radius": ("radius %", ".0f")},
    **{"within": ("width %", ".0f"), "sliced_w2": ("sliced W2", ".3f"), "leakage": ("other class %", ".1f")},
    **{"saturation": ("saturation %", ".0f"), "contrast": ("contrast %", ".0f"), "camera": ("camera ends apart", ".2f")},
    **{"updates": ("student updates", ",.0f"), "training": ("training s", ".0f"), "sampling": ("sampling s", ".2f")},
}
"""Further numbers of an arm, of its first seed or the mean over seeds: heading and format; a column is shown where some arm has it."""

ROLES = {"method": "#0072B2", "control": "#D55E00", "reference": "#009E73"}
PART_COLOURS = dict(  # Okabe and Ito
    zip(PARTS, ("#0072B2", "#56B4E9", "#0072B2", "#E69F00", "#CC79A7", "#009E73", "#999999"), strict=True)
)


def write_report(out: str | Path, report: Report) -> dict[str, Any]:
    """Write ``out/report.json`` (schema: ``lab/report.schema.json``) and ``out/report.html``, each atomically; return the JSON value."""
    value = {"schema": SCHEMA, **report.as_dict()}
    save_json(Path(out) / "report.json", value)
    page = html_page(value)
    write_atomic(Path(out) / "report.html", lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return value


# Rows, shared by console and page.


def spread(interval: Mapping[str, Any] | None, form: str = ".1f", sign: bool = False) -> str:
    """Return ``"51.2 [48.0, 54.4]"``; one seed has no interval, and an arm without the number shows a dash."""
    if interval is None:
        return "-"
    form = "+" * sign + form
    if interval["low"] is None:
        return f"{interval['mean']:{form}}"
    return f"{interval['mean']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def shown_number(value: float | Mapping[str, Any] | None, form: str) -> str:
    """Return a number, or the mean of an interval with its ends, as text; a dash where there is none."""
    return spread(value, form) if isinstance(value, Mapping) else _number(value, form)


def _number(value: float | Mapping[str, Any] | None, form: str) -> str:
    value = value["mean"] if isinstance(value, Mapping) else value
    return "-" if value is None else f"{value:{form}}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return header and rows as a Markdown table: words to the left, numbers to the right."""
    rule = ["---" if rows and _words(rows, column) else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def result_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the result table, as text."""
    shown = {key: column for key, column in COLUMNS.items() if any(arm.get(key) is not None for arm in report["arms"])}
    judged, control, form = report["score"], report["score"]["control"], f".{report['score']['digits']}f"
    files = ["file B", "clips B"] * any(arm.get("bytes") for arm in report["arms"])
    header = [
        "arm",
        "role",
        "points" if "points" in report["data"] else "clips",
        f"{judged['heading']} [95 %]",
        "seeds",
        f"against {control}",
        *files,
    ]
    header += [heading for heading, _ in shown.values()]
    rows = []
    for arm in report["arms"]:
        size = arm.get("bytes")
        sizes = [size and size["total"], size and sum(size.get(part, 0) for part in PAYLOAD)]
        rows.append(
            [
                arm["name"],
                arm["role"],
                _number(arm.get("clips"), ",d"),
                spread(arm["score"], form),
                str(arm["score"]["n"]),
                "-" if arm["name"] == control else spread(arm.get("difference"), form, sign=True),
                *(_number(each, ",d") for each in sizes[: len(files)]),
                *(_number(arm.get(key), form) for key, (_, form) in shown.items()),
            ]
        )
    return header, rows


def byte_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the byte budget: every part of every stored file; the parts sum to the file's length."""
    stored = [arm for arm in report["arms"] if arm.get("bytes")]
    parts = parts_of(stored)
    rows = [[arm["name"], *(f"{arm['bytes'].get(part, 0):,}" for part in (*parts, "total"))] for arm in stored]
    return ["arm", *(part.replace("_", " ") for part in parts), "file"], rows


def parts_of(stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parts that some stored set has, in the order of ``PARTS``."""
    return [part for part in PARTS if any(part in arm["bytes"] for arm in stored)]


def extra_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield ``(title, header, rows)`` for each further table: an entry of ``extra`` that is a list of flat records."""
    for title, records in report["extra"].items():
        if isinstance(records, list) and records and all(isinstance(record, dict) for record in records):
            header = list(dict.fromkeys(key for record in records for key in record))
            yield title, header, [[_cell(record.get(key)) for key in header] for record in records]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
        return spread(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _words(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Say whether a column holds words (set left) rather than numbers (set right)."""
    return any(not row[column].startswith(tuple("+-0123456789")) for row in rows)


def data_line(report: Mapping[str, Any]) -> str:
    """Return what was read, in one line."""
    data = report["data"]
    if "points" in data:
        return f"{data['world']}, {data['points']:,} points an arm" + (f", guidance {data['guidance']:g}" if data["guidance"] != 1 else "")
    if "teacher" in data:
        return f"{data['world']}, {data['clips']:,} clips an arm, teacher {data['teacher']}"
    skipped = len(data["skipped"])
    line = f"{len(data['classes'])} classes, {data['train']:,} training and {data['test']:,} test clips"
    if "prompts" in data:
        line = f"{data['prompts']:,} prompts"
    return line + (f", {skipped} skipped" if skipped else "") + f" ({data['layout']}: {data['root']})"


# Console.


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the result table, the byte budget, further tables and the notes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        drawn = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for column, name in enumerate(header):
            drawn.add_column(name, justify="left" if _words(rows, column) else "right", overflow="fold")
        for row in rows:
            drawn.add_row(*row, style="bold" if row[:2] == ["method", "method"] else "")
        console.print(drawn)

    table(f"{report['paper']}: {data_line(report)}", *result_rows(report))
    header, rows = byte_rows(report)
    if rows:
        table("bytes of each stored file", header, rows)
    for title, header, rows in extra_rows(report):
        table(title, header, rows)
    for note in report["notes"]:
        console.print(f"- {note}", markup=False, highlight=False)


# Page.

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
th.left, td.left { text-align: left; } details { margin-top: 2.2rem; }
tr.method td { font-weight: 650; }
svg { max-width: 100%; height: auto; }
.note { max-width: 48rem; } small, .soft { opacity: .7; }
""".strip()


def html_page(report: Mapping[str, Any]) -> str:
    """Return the whole report as one HTML page: no script, no file beside it, light or dark as the reader has it."""
    knobs = [[name, str(value)] for name, value in report["knobs"].items()]
    skipped = [[item["name"], item["reason"]] for item in report["data"]["skipped"]]
    byte_header, bytes_of = byte_rows(report)
    roles, judged = [arm["role"] for arm in report["arms"]], report["score"]
    blocks = [
        f"<h1>{escape(report['paper'])}</h1><p>{escape(data_line(report))}</p>",
        f"<h2>{escape(judged['title'])}</h2>",
        dot_chart(report["arms"], judged),
        f"<p class='soft'>Mean and 95&nbsp;% interval over seeds; against {escape(judged['control'])}: paired by seed. "
        f"{escape(judged['about'])}</p>",
        _table(*result_rows(report), roles=roles),
    ]
    if any(arm.get("flow") for arm in report["arms"]):
        blocks += [f"<h2>{escape(judged['title'])} against motion</h2>", pareto_chart(report["arms"], judged)]
    for against, more in (("precision", "more is sharper"), ("coverage", "more is more diverse")):
        if all(arm.get(against) for arm in report["arms"]):
            blocks += [f"<h2>{escape(judged['title'])} against {escape(COLUMNS[against][0])}</h2>"]
            blocks += [pareto_chart(report["arms"], judged, against, more)]
    if bytes_of:
        blocks += ["<h2>Bytes</h2>", byte_chart(report["arms"]), _table(byte_header, bytes_of)]
    for title, header, rows in extra_rows(report):
        blocks += [f"<h2>{escape(title)}</h2>", _table(header, rows)]
    if report["notes"]:
        blocks += ["<h2>Notes</h2>", "<ul>", *(f"<li class='note'>{escape(note)}</li>" for note in report["notes"]), "</ul>"]
    if skipped:
        blocks += [f"<h2>Skipped files ({len(skipped)})</h2>", _table(["file", "reason"], skipped)]
    blocks += ["<details><summary>Every knob</summary>", _table(["knob", "value"], knobs), "</details>"]
    return html_document(report["paper"], "\n".join(blocks))


def html_document(title: str, body: str, look: str = "") -> str:
    """Return a whole page of the house: its style and no script.

    Args:
        title: of the window.
        body: HTML.
        look: further style.
    """
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    style = "\n".join(filter(None, [STYLE, look]))
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}<title>{escape(title)} - vidistill</title><style>{style}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of words; its cells are HTML, the names above them text."""
    head = "".join(f"<th scope='col' class='left'>{escape(name)}</th>" for name in header)
    lines = ["<tr>" + "".join(f"<td class='left'>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], roles: Sequence[str] = ()) -> str:
    left = ["class=left" if _words(rows, column) else "" for column in range(len(header))]
    head = "".join(f"<th scope=col {side}>{escape(name)}</th>" for name, side in zip(header, left, strict=True))
    lines = [
        f"<tr class='{role}'>" + "".join(f"<td {side}>{escape(cell)}</td>" for cell, side in zip(row, left, strict=True)) + "</tr>"
        for row, role in zip(rows, roles or [""] * len(rows), strict=True)
    ]
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"


LEFT, WIDE, ROW, TALL = 130, 560, 24, 300
"""Chart geometry in pixels: label column, plot width, row height, height of a plane."""


def dot_chart(arms: Sequence[Mapping[str, Any]], judged: Mapping[str, Any]) -> str:
    """Return an SVG of one row per arm: its mean as a dot, its interval as a line; the role is told by shape and colour.

    Args:
        arms: ``name``, ``role`` and ``score``.
        judged: the report's ``score``, what the number is. Where guessing reaches something, the axis begins at 0.
    """
    chance, form = judged["chance"], f".{judged['digits']}f"
    ends = [arm["score"][end] for arm in arms for end in ("mean", "low", "high") if arm["score"][end] is not None]
    ticks = nice_ticks(min(ends) if chance is None else 0.0, max(ends) if chance is None else min(100.0, max(1.0, chance, *ends)))
    first, last = ticks[0], ticks[-1]
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))

    def x(value: float) -> float:
        return round(LEFT + WIDE * (min(max(value, first), last) - first) / (last - first), 1)

    bottom = ROW * len(arms) + 8
    marks = []
    for tick in ticks:
        marks.append(f"<line class='axis' x1='{x(tick)}' x2='{x(tick)}' y1='4' y2='{bottom}'/>")
        marks.append(f"<text x='{x(tick)}' y='{bottom + 16}' text-anchor='middle'>{tick:.{digits}f}</text>")
    if chance is not None:
        marks.append(f"<line class='chance' x1='{x(chance)}' x2='{x(chance)}' y1='4' y2='{bottom}'/>")
    for row, arm in enumerate(arms):
        y, found, colour = ROW * row + ROW // 2 + 4, arm["score"], ROLES[arm["role"]]
        marks.append(f"<text x='{LEFT - 10}' y='{y + 4}' text-anchor='end'>{escape(arm['name'])}</text>")
        if found["low"] is not None:
            marks.append(f"<line x1='{x(found['low'])}' x2='{x(found['high'])}' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2'/>")
        marks.append(f"<g><title>{escape(arm['name'])}: {spread(found, form)}</title>{_marker(arm['role'], x(found['mean']), y)}</g>")
    legend_x = LEFT
    for role in ROLES:
        marks.append(_marker(role, legend_x + 6, bottom + 34) + f"<text x='{legend_x + 18}' y='{bottom + 38}'>{role}</text>")
        legend_x += 110
    label = f"{judged['title']} of each arm with its interval; the same numbers are in the table below"
    return _svg(escape(label), bottom + 46, marks)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return round numbers, evenly spaced by 1, 2 or 5 times a power of ten, the first at most ``low`` and the last at least ``high``."""
    span = max(high - low, 1e-6)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(many for many in (1, 2, 5, 10) if span / (step * many) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def pareto_chart(
    arms: Sequence[Mapping[str, Any]], judged: Mapping[str, Any], against: str = "flow", more: str = "more is livelier"
) -> str:
    """Return an SVG of the score over another number of each arm, such as consistency over motion: up and to the right is better in both.

    Args:
        arms: ``name``, ``role``, ``score`` and an interval called ``against``; arms without it are left out.
        judged: the report's ``score``.
        against: the number along the axis, one of ``COLUMNS``.
        more: what a larger one means.
    """
    shown = [arm for arm in arms if arm.get(against) is not None]
    heading, form = COLUMNS[against]
    axes = []
    for key in (against, "score"):
        ends = [arm[key][end] for arm in shown for end in ("mean", "low", "high") if arm[key][end] is not None]
        axes.append(nice_ticks(min(ends), max(ends)))
    (left, *_, right), (low, *_, high) = axes

    def place(across: float, up: float) -> tuple[float, float]:
        return round(LEFT + WIDE * (across - left) / (right - left), 1), round(8 + TALL * (high - up) / (high - low), 1)

    marks = []
    for tick in axes[0]:
        x, _ = place(tick, low)
        marks.append(f"<line class='axis' x1='{x}' x2='{x}' y1='8' y2='{8 + TALL}'/>")
        marks.append(f"<text x='{x}' y='{TALL + 24}' text-anchor='middle'>{tick:g}</text>")
    for tick in axes[1]:
        _, y = place(left, tick)
        marks.append(f"<line class='axis' x1='{LEFT}' x2='{LEFT + WIDE}' y1='{y}' y2='{y}'/>")
        marks.append(f"<text x='{LEFT - 8}' y='{y + 4}' text-anchor='end'>{tick:g}</text>")
    for arm in shown:
        across, up, colour = arm[against], arm["score"], ROLES[arm["role"]]
        x, y = place(across["mean"], up["mean"])
        if up["low"] is not None:
            (x1, y1), (x2, y2) = place(across["low"], up["low"]), place(across["high"], up["high"])
            marks.append(f"<path d='M{x1} {y}H{x2}M{x} {y1}V{y2}' stroke='{colour}' stroke-opacity='.45' fill='none'/>")
        title = f"{arm['name']}: {shown_number(up, '.' + str(judged['digits']) + 'f')} at {heading} {shown_number(across, form)}"
        marks.append(f"<g><title>{escape(title)}</title>{_marker(arm['role'], x, y)}</g>")
        marks.append(f"<text x='{x + 9}' y='{y - 7}'>{escape(arm['name'])}</text>")
    marks.append(f"<text x='{LEFT + WIDE}' y='{TALL + 42}' text-anchor='end'>{escape(heading)}, {escape(more)}</text>")
    label = f"{judged['title']} over {heading} of each arm, with intervals; the same numbers are in the table"
    return _svg(escape(label), TALL + 50, marks)


def _marker(role: str, x: float, y: float) -> str:
    """Return a circle for the method, a square for a control, a diamond for a reference."""
    turn = f" transform='rotate(45 {x} {y})'" if role == "reference" else ""
    if role == "method":
        return f"<circle cx='{x}' cy='{y}' r='6' fill='{ROLES[role]}'/>"
    return f"<rect x='{x - 4.5:.1f}' y='{y - 4.5:.1f}' width='9' height='9' fill='{ROLES[role]}'{turn}/>"


def byte_chart(arms: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of one stacked bar per stored file, its parts in the order of ``PARTS``."""
    stored = [arm for arm in arms if arm.get("bytes")]
    top = max(arm["bytes"]["total"] for arm in stored)
    marks = []
    for row, arm in enumerate(stored):
        y, start = ROW * row + 8, float(LEFT)
        marks.append(f"<text x='{LEFT - 10}' y='{y + 12}' text-anchor='end'>{escape(arm['name'])}</text>")
        for part in parts_of(stored):
            if not (held := arm["bytes"].get(part, 0)):
                continue
            width = WIDE * held / top
            title = f"<title>{escape(arm['name'])}: {part.replace('_', ' ')} {held:,} bytes</title>"
            marks.append(
                f"<rect x='{start:.1f}' y='{y}' width='{max(0.0, width - 1):.1f}' height='14' fill='{PART_COLOURS[part]}'>{title}</rect>"
            )
            start += width
    y, legend_x = ROW * len(stored) + 14, LEFT
    for part in parts_of(stored):
        marks.append(f"<rect x='{legend_x}' y='{y}' width='12' height='12' fill='{PART_COLOURS[part]}'/>")
        marks.append(f"<text x='{legend_x + 18}' y='{y + 10}'>{part.replace('_', ' ')}</text>")
        legend_x += 100
    return _svg("Bytes of each stored file by part; the same numbers are in the table below", y + 20, marks)


def _svg(label: str, height: float, marks: Sequence[str]) -> str:
    width = LEFT + WIDE + 30
    style = "text{fill:currentColor;font:12px system-ui,sans-serif} .axis,.chance{stroke:currentColor;stroke-opacity:.2} "
    style += ".chance{stroke-dasharray:4 4;stroke-opacity:.6}"  # within the picture, so that a notebook shows it as the page does
    head = f"<svg role='img' aria-label='{label}' viewBox='0 0 {width} {height}' width='{width}'>"
    return "\n".join([head, f"<style>{style}</style>", *marks, "</svg>"])
