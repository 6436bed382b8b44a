"""The pane of glass over the zoo: a prompt on top, model and knobs left, the clip in the middle, what the parser reads in it right."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import panel as pn

from vidistill.data.world import FACTORS, MOTIONS
from vidistill.lab.previews import Preview
from vidistill.lab.zoo_session import KNOBS, Reading, Take, ZooSession, asked, compose
from vidistill.widgets import style, theme
from vidistill.widgets.knob_panel import OWN, KnobPanel
from vidistill.widgets.player import Player
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.strip import Strip

UNSAID, NONE = "(not said)", "(none)"
WIDTH = 400  # pixels of the screen that a clip is shown on, at most
MARKS = {True: ("✓", "right", style.GOOD), False: ("✗", "wrong", style.BAD), None: ("–", "not asked", theme.MUTED)}
WORDS = """
:host { display: grid !important; gap: 8px; grid-template-columns: repeat(5, minmax(0, 1fr)); }
@container (max-width: 720px) { :host { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""
PROSE = f"""
{style.TEXT}
:host {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 12px; }}
th, td {{ padding: 2px 8px 2px 0; text-align: left; border: none !important; border-bottom: 1px solid {theme.LINE} !important; }}
code {{ color: {theme.INK}; }}
h1 {{ font-size: 16px; }} h2 {{ font-size: 14px; }} h3 {{ font-size: 13px; }}
"""


def _seen(reading: Reading) -> str:
    """Return one cell of the table: what is seen, right or wrong in a sign and in a word, and in how many frames."""
    sign, word, colour = MARKS[reading.right]
    frames = ""
    if reading.frames is not None and reading.frames[1]:
        frames = f'<div style="font-size:11.5px;color:{theme.MUTED}">in {reading.frames[0]} of {reading.frames[1]} frames</div>'
    mark = f'<span style="white-space:nowrap;font-weight:600"><span style="color:{colour};font-size:15px">{sign}</span> {word}</span>'
    return f"{html.escape(reading.seen)}&ensp;{mark}{frames}"


def readings_html(takes: Sequence[Take]) -> str:
    """Return the table of readings, one column a clip, with its cost underneath."""
    cell = f'style="padding:5px 10px 5px 0;border-bottom:1px solid {theme.LINE};text-align:left;vertical-align:top"'
    factors = "".join(
        f'<tr><th scope="row" {cell}>{rows[0].factor}</th><td {cell}>{html.escape(rows[0].asked) or "–"}</td>'
        + "".join(f'<td {cell} data-mark="{MARKS[row.right][1]}">{_seen(row)}</td>' for row in rows)
        + "</tr>"
        for rows in zip(*(take.readings for take in takes), strict=True)
    )
    costs = {
        "as asked": [f"<b>{take.score[0]} of {take.score[1]}</b>" for take in takes],
        "seconds": [f"{take.seconds:.2f}" for take in takes],
        "network evaluations": [f"{take.evaluations}" for take in takes],
    }
    under = "".join(
        f'<tr><th scope="row" {cell}>{name}</th><td {cell}></td>' + "".join(f"<td {cell}>{value}</td>" for value in values) + "</tr>"
        for name, values in costs.items()
    )
    heads = "".join(f'<th scope="col" {cell}>{html.escape(take.model)}</th>' for take in takes)
    head = f'<tr><th scope="col" {cell}>factor</th><th scope="col" {cell}>asked</th>{heads}</tr>'
    return f'<table role="table" style="border-collapse:collapse;width:100%;font-size:13px">{head}{factors}{under}</table>'


def alt_text(takes: Sequence[Take]) -> str:
    """Say in words what the player shows."""
    said = [f"{take.model}: {', '.join(reading.seen for reading in take.readings)}" for take in takes]
    return f'clips for the prompt "{takes[0].prompt}", as the parser reads them; {"; ".join(said)}'


def made_html(takes: Sequence[Take]) -> str:
    """Return how the clips on the player were made."""
    take = takes[0]
    how = f"seed {take.seed}, {take.steps} steps, guidance {take.guidance:g}"
    return f'<span style="color:{theme.MUTED}">{html.escape(take.prompt) or "(empty prompt)"} · {how}</span>'


def clips_of(takes: Sequence[Take]) -> dict[str, Any]:
    """Return the clips by name, for the player."""
    return {take.model: take.clip for take in takes}


def static_views(takes: Sequence[Take]) -> list[Any]:
    """Return the views of clips for a run without a screen: one film as animated PNG, and the table of readings."""
    from IPython.display import HTML, Image

    player = Player()
    player.load(clips_of(takes), alt_text(takes))
    return [Image(data=player.apng(), alt=alt_text(takes)), HTML(made_html(takes)), HTML(readings_html(takes))]


class ZooBench(pn.viewable.Viewer):
    """Compose a prompt, pick a model, run it: the clip forms, plays, and is read; a second model may run beside it from the same noise.

    Args:
        session: the models.
        takes: the clips of the first state, of one prompt; the first one's model is picked.
    """

    def __init__(self, session: ZooSession, takes: Sequence[Take], **params: Any) -> None:
        super().__init__(**params)
        css = [style.CONTROL]
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": css}
        first = takes[0]
        self._session = session
        self._takes = list(takes)
        self._quiet = False
        self.prompt = pn.widgets.TextInput(name="prompt", value=first.prompt, **wide)
        self.words = {
            factor: pn.widgets.Select(
                name=factor, options={UNSAID: "", **{MOTIONS.get(name, name): name for name in names}}, **{**wide, "margin": 0}
            )
            for factor, names in FACTORS.items()
        }
        self.model = pn.widgets.Select(name="model", options=session.names, value=first.model, **wide)
        self.other = pn.widgets.Select(name="compare with", options=[NONE, *session.names], value=NONE, **wide)
        self.panel = KnobPanel(
            KNOBS,
            show=("steps", "guidance"),
            presets={f"{name}'s own": session.own(name) for name in session.names},
            start={"steps": first.steps, "guidance": first.guidance},
            seed=first.seed,
        )
        self.bar = RunBar(label="Run", forecast=lambda: session.forecast(self.model.value))
        self.player = Player()
        self._screen = pn.Column(self.player, sizing_mode="stretch_width", margin=0)
        self._hint = style.text("")
        self._made, self._table = style.text(margin=(6, 0, 0, 0)), style.text()
        self.strip = Strip([first.model])
        self._card = pn.pane.Markdown("", renderer_options={"html": False}, sizing_mode="stretch_width", margin=0, stylesheets=[PROSE])
        self._expander = pn.Card(
            self._card, title="", collapsed=True, stylesheets=[style.EXPANDER], sizing_mode="stretch_width", margin=0, hide_header=False
        )
        self._show_words()
        self._show_card()
        self.draw(takes)
        self.bar.run_button.on_click(self.run)
        self.prompt.param.watch(self.run, "enter_pressed")
        self.prompt.param.watch(self._typed, "value")
        self.model.param.watch(self._picked, "value")
        for select in self.words.values():
            select.param.watch(self._chosen, "value")

    def draw(self, takes: Sequence[Take]) -> None:
        """Show clips of one prompt: the film, how it was made, what is read in it."""
        self.player.load(clips_of(takes), alt_text(takes))
        self._screen.max_width = WIDTH * len(takes)
        self._made.object = made_html(takes)
        self._table.object = readings_html(takes)

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        picked = [self.model.value, *([self.other.value] if self.other.value not in (NONE, self.model.value) else [])]
        prompt, values = self.prompt.value, {**self.panel.values, "seed": self.panel.seed}
        self._takes, self._hint.object = [], ""
        self.strip.begin(picked)
        await self.bar.run(lambda: self._session.steps(prompt, picked, values), self._show)

    def _show(self, result: Preview | Take) -> None:
        if isinstance(result, Preview):
            self.strip.add(result)
        else:
            self._takes.append(result)
            self.draw(self._takes)

    def _chosen(self, event: Any) -> None:
        if not self._quiet:
            self.prompt.value = compose({factor: select.value for factor, select in self.words.items() if select.value})

    async def _typed(self, event: Any) -> None:
        self._show_words()
        model, prompt = self.model.value, self.prompt.value
        if (hint := await self.bar.hint(lambda: self._session.check(model, prompt))) is not None:
            self._hint.object = hint

    def _picked(self, event: Any) -> None:
        if self.panel.preset.value != OWN:  # knobs that nobody turned follow the model
            self.panel.preset.value = f"{event.new}'s own"
        self._show_card()

    def _show_words(self) -> None:
        said = asked(self.prompt.value)
        self._quiet = True
        for factor, select in self.words.items():
            select.value = said.get(factor, "")
        self._quiet = False

    def _show_card(self) -> None:
        self._expander.title = f"Card of {self.model.value}"
        self._card.object = self._session.card(self.model.value) or "There is no README.md in this model's folder."

    def __panel__(self) -> pn.viewable.Viewable:
        words = pn.Column(*self.words.values(), stylesheets=[WORDS], sizing_mode="stretch_width", margin=(0, 0, 8, 0))
        top = style.card("", self.prompt, self._hint, words, self.bar)
        left = style.card("Model and knobs", self.model, self.other, self.panel)
        centre = [
            style.card("The clip", self._screen, self._made),
            style.card("As it forms", self.strip, note="one frame of the clean clip that the model predicts after a step"),
        ]
        right = [
            style.card("What is in it", self._table, note="read from the pixels by the exact parser, beside what the prompt asks"),
            style.card("", self._expander),
        ]
        note = "Small text-to-video models of Motion World. Say what should be seen, run, and compare it with what is there."
        return style.page(style.title("The zoo", note, margin=(0, 0, 12, 0)), top, left=[left], centre=centre, right=right)
