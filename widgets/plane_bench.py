"""The pane of glass over a world of points: world and method left, the student's points as they move, what they are worth, earlier runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import panel as pn
from torch import Tensor

from vidistill.lab.few_step_session import TRAINED
from vidistill.lab.plane_session import GATE, KNOBS, LONG, NUMBERS, ODE, SDE, STUDENT, TRUTH, Look, PlaneSession
from vidistill.lab.steps import Step
from vidistill.widgets import style, theme
from vidistill.widgets.few_step import RULES
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.plane import curves_figure, points_figure
from vidistill.widgets.run_bar import RunBar

COLUMNS = {
    "coverage": ("modes held", "percent of all modes", ".0f"),
    "precision": ("on a mode", "percent of the points", ".0f"),
    "radius": ("radius", "percent of the truth's; more is saturation", ".0f"),
    "diversity": ("pairwise diversity", "percent of the truth's", ".0f"),
    "within": ("width of a mode", "percent of the truth's", ".0f"),
    "kl": ("KL of the modes", "nats, 0 is the truth", ".2f"),
}
BEGIN = "the teacher"
WORDS = {
    "p": "share of real data  p",
    "cfg": "guidance of the teacher",
    "rule": "student is sampled",
    "gan": "weight of DMD2's discriminator",
    "anchor": "weight of DP-DMD's anchor",
    "teaching": "steps of the teacher's training",
}
USES = {
    "p": lambda k: k["method"].startswith("dfd") or k["method"] == "dmd-sft",
    "cfg": lambda k: k["world"] == "quadrants",
    "gan": lambda k: k["method"] == "dmd2",
    "anchor": lambda k: k["method"] == "dp-dmd",
}


def still_figure(look: Look) -> dict[str, Any]:
    """Draw what does not move: the truth, the teacher, and the teacher in as few steps."""
    clouds = {name: look.clouds[name] for name in (TRUTH, LONG, SDE, ODE) if name in look.clouds}
    said = {TRUTH: TRUTH, LONG: LONG, SDE: "untrained, 4 re-noised", ODE: "untrained, 4 Euler"}
    return points_figure(
        look.world, {said[name]: x for name, x in clouds.items()}, labels=_known(look), columns=2, title="truth and teacher", size=190
    )


def moving_figure(look: Look) -> dict[str, Any]:
    """Draw the student's points as they are now; those of the truth where there is no student yet."""
    name = f"student, update {look.updates:,} of {look.total:,}" if STUDENT in look.clouds else "truth: train a student"
    cloud = look.clouds.get(STUDENT, look.clouds[TRUTH])
    labels = _known(look) if STUDENT in look.clouds else None
    return points_figure(look.world, {name: cloud}, labels=labels, columns=1, title="student", size=380)


def _known(look: Look) -> Tensor | None:
    return look.labels if LONG in look.clouds else None  # the truth alone is drawn with classes of its own


def learning_figure(look: Look) -> dict[str, Any]:
    """Draw coverage, precision, radius, diversity and KL over the student's updates."""
    if not look.curve:
        none = {"visible": False}
        return style.figure("while it learns", "nothing yet", 90, [], xaxis=none, yaxis=none, annotations=[style.note("Train to see it.")])
    of = {COLUMNS[name][0]: {update: seen[name] for update, seen in look.curve.items()} for name in NUMBERS}
    kl = of.pop(COLUMNS["kl"][0])
    return curves_figure(
        {"percent": of, "KL, nats": {"KL of the modes": kl}}, lines={"percent / truth": 100.0}, title="while it learns", height=280
    )


def described(look: Look) -> str:
    """Return how a run was made, in words."""
    k = look.values
    share = f", p {k['p']:g}" if USES["p"](k) else ""
    guided = f", guidance {k['cfg']:g}" if k["cfg"] != 1 else ""
    used = RULES[look.used] + ("" if look.used == look.trained else f" (trained for {RULES[look.trained]})")
    begun = f", from {look.source}" if look.source else ""
    return f"{k['world']}: {k['method']}{share}{guided}, {look.updates:,} updates{begun}, seed {look.seed}, {used}"


def runs_html(look: Look, runs: Sequence[Look]) -> str:
    """Return the finished runs as rows under the teacher and the untrained teacher of the present world."""
    head = "".join(f'<th scope="col" style="{style.CELL}">{what}{_small(how)}</th>' for what, how, _ in COLUMNS.values())
    known = [name for name in (LONG, SDE, ODE) if name in look.tables]
    rows: list[tuple[str, str, Mapping[str, Any], float | None, str]] = [
        (name, look.world.name + ("" if name == LONG else ", control"), look.tables[name], None, "–") for name in known
    ]
    rows += [(run.name, described(run), run.tables[STUDENT], run.seconds, _told(run.alarms)) for run in runs]
    body = "".join(
        f'<tr data-run="{html.escape(name)}"><th scope="row" style="{style.CELL}">{html.escape(name)}{_small(html.escape(how))}</th>'
        + "".join(f'<td style="{style.CELL}">{style.number(table[key], form)}</td>' for key, (_, _, form) in COLUMNS.items())
        + f'<td style="{style.CELL}">{"–" if seconds is None else f"{seconds:.1f}"}</td>'
        + f'<td style="{style.CELL}">{told}</td></tr>'
        for name, how, table, seconds, told in rows
    )
    first = f'<tr><th scope="col" style="{style.CELL}">run</th>{head}<th scope="col" style="{style.CELL}">training, s</th>'
    first += f'<th scope="col" style="{style.CELL}">alarms</th></tr>'
    empty = "" if rows else "No teacher of this world yet: it is trained once, when a student is."
    table = f'<table style="border-collapse:collapse;width:100%;font-size:12.5px">{first}{body}</table>'
    return f'<div role="status" style="overflow-x:auto">{table}{empty}</div>'


def _told(alarms: Mapping[str, str]) -> str:
    return "<br>".join(f"⚠ {html.escape(alarm)}" for alarm in alarms) or "✓ none"


def _small(words: str) -> str:
    return f'<div style="font-weight:400;font-size:11.5px;color:{theme.MUTED}">{words}</div>'


def tiles_html(look: Look) -> str:
    """Return the student's numbers as tiles, the teacher's and the control's under each."""
    table, control = look.tables.get(STUDENT), ODE if look.used == "ode" else SDE

    def under(key: str, form: str) -> str:
        return ", ".join(
            f"{who} {style.number(look.tables[name][key], form)}"
            for who, name in (("teacher", LONG), ("untrained", control))
            if name in look.tables
        )

    cells = "".join(
        style.tile(
            f"points-{key}", style.number(table and table[key], form) + ("" if key == "kl" or not table else " %"), what, under(key, form)
        )
        for key, (what, _, form) in COLUMNS.items()
        if key in NUMBERS
    )
    looks = "display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:8px"
    return f'<div role="status" style="{looks}">{cells}</div>'


def teacher_line(look: Look) -> str:
    """Say how good the teacher is against what the papers' runs ask of one, and that it is smaller than theirs."""
    steps = f"{look.values['teaching']:,} steps"
    if look.sharp is None:
        return f"The teacher of this world is not there yet: {steps} of training, once, then it is kept in the cache."
    sign, word = ("✓", "passes") if look.sharp >= GATE else ("✗", "does not pass")
    return (
        f"<b>{sign}</b> The teacher {word} the papers' gate: {look.sharp:.0f} % of its points are on a mode in 50 steps without guidance, "
        f"{GATE:.0f} % are asked. It was trained for {steps}, fewer points than in the papers' own runs."
    )


def alarms_html(look: Look) -> str:
    """Return the failures that a cloud of points shows, each with a sign and a name, or that there is none."""
    if STUDENT not in look.tables and not look.alarms:
        return '<div role="status">No student yet: choose a method and train.</div>'
    return style.alarms(look.alarms, "all modes are held, no further out than the truth, and better than untrained")


def static_views(look: Look, runs: Sequence[Look]) -> list[Any]:
    """Return the views of a world of points for a run without a screen: figures, the rows of its runs, failures as HTML."""
    from IPython.display import HTML

    page = [HTML(teacher_line(look)), HTML(tiles_html(look)), HTML(alarms_html(look)), HTML(runs_html(look, runs))]
    return [*page, *(style.Static(figure) for figure in (moving_figure(look), still_figure(look), learning_figure(look)))]


class PlaneBench(pn.viewable.Viewer):
    """Choose a world and a method, train: points move, curves grow, and finished runs stay as rows.

    Args:
        session: worlds, teachers and students.
        look: the first state.
        knobs: the values that made it, as they were asked for.
        runs: finished runs of the first state.
    """

    def __init__(self, session: PlaneSession, look: Look, knobs: Mapping[str, Any], runs: Sequence[Look] = (), **params: Any) -> None:
        super().__init__(**params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session, self._look, self._runs, self._begun = session, look, list(runs), len(runs)
        self._drawn: tuple[Any, ...] = ()
        self.start = pn.widgets.Select(name="go on from", options=[BEGIN], value=BEGIN, **wide)
        folded = ("gan", "anchor", "teaching")
        values = {name: knobs[name] for name in KNOBS}
        self.panel = KnobPanel(KNOBS, start=values, uses=USES, words=WORDS, folded=folded, seed=look.seed)
        self.bar = RunBar(label="Train")
        self.forget = pn.widgets.Button(name="Forget runs", width=110, margin=(6, 0, 0, 0), stylesheets=[style.CONTROL])
        self._teacher, self._tiles, self._alarms = style.text(margin=(0, 0, 8, 0)), style.text(), style.text(margin=(8, 0, 0, 0))
        self._table = style.text()
        self._moving, self._still, self._curves = style.plot(), style.plot(), style.plot()
        self._before = dict(self.panel.values)
        self._rows()
        self.draw(look)
        self.bar.run_button.on_click(self.run)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.forget.on_click(self._forgotten)

    def draw(self, look: Look) -> None:
        """Show a world and its student; what has not changed is left as it is."""
        self._look = look
        here = (look.world.name, look.seed, look.values["cfg"], look.values["teaching"], LONG in look.clouds)
        if here != self._drawn:
            self._still.object, self._teacher.object, self._drawn = still_figure(look), teacher_line(look), here
            self._table.object = runs_html(look, self._runs)
        self._moving.object, self._curves.object = moving_figure(look), learning_figure(look)
        self._tiles.object, self._alarms.object = tiles_html(look), alarms_html(look)

    async def run(self, *events: Any) -> None:
        """Train the student that the page asks for; a run under way is superseded."""
        values, seed, self._begun = dict(self.panel.values), self.panel.seed, self._begun + 1
        name, start = f"run {self._begun}", next((run for run in self._runs if run.name == self.start.value), None)
        await self.bar.run(lambda: self._session.steps(values, seed=seed, start=start, name=name), self._show)

    def _show(self, look: Look) -> None:
        self.draw(look)
        if look.start is not None:
            self._runs.append(look)
            self._rows()

    def _rows(self) -> None:
        self._table.object = runs_html(self._look, self._runs)
        names = [run.name for run in self._runs]
        self.start.options = [BEGIN, *names]
        if self.start.value not in self.start.options:
            self.start.value = BEGIN

    async def _turned(self, *events: Any) -> None:
        """Show another world at once, and a finished student by another rule; the rest waits for the button."""
        values, seed, look = dict(self.panel.values), self.panel.seed, self._look
        changed = {name for name, value in values.items() if value != self._before[name]}
        self._before = values
        if changed & {"world", "cfg", "teaching"} or seed != look.seed:
            await self.bar.run(lambda: iter([Step("world", 1, 1, self._session.opening(values, seed=seed))]), self.draw)
        elif "rule" in changed and look.start is not None:
            again = look.trained if values["rule"] == TRAINED else values["rule"]
            if again != look.used:
                name = f"{look.name.split(',')[0]}, {RULES[again]}"
                await self.bar.run(lambda: self._session.again(replace(look, name=name), values["rule"]), self._resampled)

    def _resampled(self, look: Look) -> None:
        self.draw(look)
        self._runs = [run for run in self._runs if run.name != look.name] + [look]
        self._rows()

    def _forgotten(self, event: Any) -> None:
        self._runs = []
        self._rows()

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self._teacher, self.bar)
        left = style.card("World and method", self.start, self.panel)
        centre = [
            style.card("The student's points", self._moving, note="dots are on a mode, crosses on none; a large cross is a missing mode"),
            style.card("While it learns", self._curves, note="over student updates: several methods need five critic updates to each"),
        ]
        right = [
            style.card(
                "What they are worth", self._tiles, self._alarms, note="pairwise diversity alone misleads: read it beside the modes"
            ),
            style.card("Truth, teacher, untrained teacher", self._still),
        ]
        below = style.card("Finished runs", self._table, self.forget, note="the teacher in as few steps, untrained, is the control of all")
        note = "Points with known modes, a teacher, and a student of four steps that is trained now: what is missing can be counted."
        words = f'<h2 style="font-size:18px;margin:0 0 2px">The same in the plane</h2><p style="color:{theme.MUTED};margin:0">{note}</p>'
        page = style.page(style.text(words, margin=(0, 0, 12, 0)), top, left=[left], centre=centre, right=right)
        page.append(below)
        return page
