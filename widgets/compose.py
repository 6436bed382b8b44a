"""The pane of glass over all operators in one sampler: switches and knobs left, the model alone, each operator alone and all together on
one clock in the middle, whether their effects add up right."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.lab.compose_session import ALL, ALONE, KNOBS, SWITCHES, ComposeSession, Look, only, presets
from vidistill.lab.few_step_session import times_of
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.lab.videoguide_session import SELF, SUBJECT
from vidistill.widgets import style, theme, videoguide_words
from vidistill.widgets import videoguide as guide
from vidistill.widgets.desk import Desk
from vidistill.widgets.gvd import STEPS
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player, png
from vidistill.widgets.pull import decay_html
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.strip import Strip, film_strip, frames_html, strip_html, strip_words
from vidistill.widgets.sums import adding_figure, effects_figure, ledger_figure, nearness_figure
from vidistill.widgets.zoo import readings_html

if TYPE_CHECKING:
    from torch import Tensor

CENTRE = "centre"
SHOWN = (*SWITCHES.values(), "chain", "strength", "decay", "pick", "beta", "guided", "tau")
SAID = {"pull": "pull to a centre", "teacher": "teacher", "low-pass": "low-pass"}
WORDS = guide.WORDS | {
    **{knob: SAID[name] for name, knob in SWITCHES.items()},
    "chain": "order of the two",
    "strength": "strength of the pull  lambda",
    "decay": "decay of the pull  w_f",
    "weight": "weight of the pull  s_t",
    "t_high": "pulled from t",
    "t_low": "pulled down to t",
    "centre": "centres are",
    "inside": "first I steps by",
}


def _pulls(k: Mapping[str, Any]) -> bool:
    return bool(k["pull"] and k["strength"])


def _teaches(k: Mapping[str, Any]) -> bool:
    return bool(k["teach"] and k["guided"])


def _filters(k: Mapping[str, Any]) -> bool:
    return bool(k["low_pass"] and k["guided"] and k["space"])


USES = {
    "chain": lambda k: _pulls(k) and _teaches(k),
    "strength": lambda k: k["pull"],
    **dict.fromkeys(("weight", "decay", "t_high", "t_low"), _pulls),
    "guided": lambda k: k["teach"] or k["low_pass"] or k["inside"] != k["outside"],
    "beta": _teaches,
    **dict.fromkeys(("tau", "points", "t_map", "scale"), lambda k: _teaches(k) and k["beta"] < 1),
    "space": lambda k: k["low_pass"] and k["guided"],
    **dict.fromkeys(("time", "filter"), _filters),
    "order": lambda k: _filters(k) and k["filter"] == "butterworth",
    "inside": lambda k: k["guided"] > 0,
    "lam": guide.USES["lam"],
}
MEASURES = {
    "distance": ("distance to the centre", "rms of the latents", ".2f"),
    "pull": ("nearer to it", "than the model alone", ".0%"),
    "way": ("way gone to it", "along the straight line; another clip altogether goes about half", ".0%"),
    **videoguide_words.MEASURES,
}
MEASURED = ("distance", "pull", "drift_any", "motion", SUBJECT)
"""What a tile has; the rest is in the table."""


def captions(look: Look) -> dict[str, str]:
    """Return what each clip is called."""
    whole = {0: "without any operator", 1: f"with the {''.join(look.acts)}"}.get(len(look.acts), ALL)
    return {name: {ALONE: f"{look.model} alone", ALL: whole}.get(name, name) for name in look.takes}


def tiles_html(look: Look) -> str:
    """Return tiles of the clip with all operators, each above the same number of the others."""
    said = {name: {ALONE: "alone"}.get(name, name) for name in look.takes if name != ALL}

    def under(values: Mapping[str, str]) -> str:
        return ", ".join(f"{said[name]} {value}" for name, value in values.items() if name in said)

    rows = {what: {name: style.number(value, MEASURES[what][2]) for name, value in look.numbers[what].items()} for what in MEASURED}
    cells = [style.tile(what, row[ALL], MEASURES[what][0], under(row)) for what, row in rows.items()]
    for key, what, row in (
        ("right", "words are right", {name: "{} of {}".format(*take.score) for name, take in look.takes.items()}),
        ("evaluations", "network evaluations", {name: f"{take.evaluations}" for name, take in look.takes.items()}),
        ("seconds", "seconds", {name: f"{take.seconds:.2f}" for name, take in look.takes.items()}),
    ):
        cells.append(style.tile(key, row[ALL], what, under(row)))
    looks = "display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px"
    return f'<div role="status" aria-live="polite" style="{looks}">{"".join(cells)}</div>'


def numbers_html(look: Look) -> str:
    """Return the measures of all clips, one column a clip."""
    return style.measures(captions(look), look.numbers, MEASURES)


def seen_html(look: Look) -> str:
    """Return what the exact parser reads in each clip beside what the prompt asks, and what each clip cost."""
    said = captions(look)
    return readings_html([replace(take, model=said[name]) for name, take in look.takes.items()])


def alarms_html(look: Look) -> str:
    """Return the failures that a look shows, each with a sign and a name, or that there is none."""
    return style.alarms(look.alarms, "every operator does something, and the clip keeps its object, its motion and its words")


def sums_html(look: Look) -> str:
    """Return whether effects add up, whether the order matters, and when each operator works, in words."""
    adds = "One operator alone acts: there is nothing to add." if look.acts else "No operator acts."
    told = [look.adds.told() if look.adds else adds, look.order]
    rows = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(said)}</li>" for name, said in look.told.items())
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in told)
    return f'<div role="status">{lines}<ul style="margin:0 0 6px;padding-left:18px">{rows}</ul></div>'


def alt_text(look: Look) -> str:
    """Say in words what the player shows."""
    said = ", ".join(
        f"{name} ({'{} of {}'.format(*look.takes[clip].score)} words right, {look.numbers['pull'][clip]:.0%} nearer to the centre)"
        for clip, name in captions(look).items()
    )
    return f'The prompt "{look.prompt}", playing in step from the same noise: {said}'


def made_html(look: Look) -> str:
    """Return how the clips were made."""
    k, row = look.values, look.values["pick"]
    who = "itself" if look.teacher == SELF else look.teacher
    how = [
        f"seed {look.seed}, {look.model}, {k['sampling_steps']} steps, guidance {k['guidance']:g}",
        f"centre {row} of {len(look.sizes)} of {look.label}, {look.sizes[row - 1]} clip{'' if look.sizes[row - 1] == 1 else 's'}",
        *([f"taught by {who}, beta {k['beta']:g}, tau {k['tau']}"] if k["teach"] else []),
        *([f"known before: {', '.join(look.remembered)}"] if look.remembered else []),
    ]
    return f'<span style="color:{theme.MUTED}">{" · ".join(map(html.escape, (look.prompt or "(empty prompt)", *how)))}</span>'


def shown(look: Look) -> dict[str, Tensor]:
    """Return the clips by their captions."""
    said = captions(look)
    return {said[name]: clip for name, clip in look.clips.items()}


def figures(look: Look) -> tuple[dict[str, Any], ...]:
    """Return the figures: effects, adding up along the steps, distance to the centre, and the ledger of each operator."""
    paths = {said: look.paths[name] for name, said in captions(look).items()}
    ledgers = (ledger_figure(SAID[name], look.forces.get(name, [])) for name in SWITCHES)
    return effects_figure(look.adds), adding_figure(look.adds), nearness_figure(paths), *ledgers


def static_views(look: Look) -> list[Any]:
    """Return the views of a look for a run without a screen: film and strip as PNG, plots as figures, verdicts as HTML."""
    from IPython.display import HTML, Image

    player, rows = Player(), shown(look) | {CENTRE: look.centre}
    player.load(shown(look), alt_text(look))
    return [
        Image(data=player.apng(), alt=alt_text(look)),
        HTML(made_html(look)),
        HTML(sums_html(look)),
        HTML(tiles_html(look)),
        HTML(alarms_html(look)),
        HTML(numbers_html(look)),
        HTML(seen_html(look)),
        Image(data=png(film_strip(rows, most=6)), alt=strip_words(rows)),
        HTML(strip_html(look.formed)),
        *(style.Static(figure) for figure in figures(look)),
    ]


class ComposeBench(pn.viewable.Viewer):
    """Switch operators on and off: the model alone, each of them alone and all together form side by side, and the page says what adds up.

    Args:
        session: the models and the real clips.
        look: the first state.
        knobs: the values that made it, as they were asked for.
    """

    def __init__(self, session: ComposeSession, look: Look, knobs: dict[str, Any], **params: Any) -> None:
        super().__init__(name="compose", **params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session, self.knobs = session, KNOBS
        teachers = {"the model itself" if name == SELF else name: name for name in session.teachers}
        self.label = pn.widgets.Select(name="class", options=list(session.classes), value=look.label, **wide)
        self.prompt = pn.widgets.TextInput(name="prompt", value=look.prompt, **wide)
        self.model = pn.widgets.Select(name="model", options=session.zoo.names, value=look.model, **wide)
        self.teacher = pn.widgets.Select(name="teacher", options=teachers, value=look.teacher, **wide)
        self._curve, self._length = style.text(margin=(0, 0, 6, 0)), look.centre.shape[1]
        show = [*SHOWN, *(name for name in KNOBS if name not in SHOWN)]
        settings: dict[str, Any] = {
            "show": show,
            "folded": show[len(SHOWN) :],
            "words": WORDS,
            "uses": USES,
            "beside": {"decay": self._curve},
        }
        self.panel = KnobPanel(KNOBS, presets=presets(), start=knobs, seed=look.seed, **settings)
        self.bar = RunBar(label="Run", forecast=self._forecast)
        self.player = Player()
        self.strip = Strip(look.takes)
        self.desk = Desk(self)
        self._hint = style.text("")
        self._made, self._tiles, self._alarms = style.text(margin=(6, 0, 0, 0)), style.text(), style.text(margin=(8, 0, 0, 0))
        self._sums, self._numbers, self._seen, self._frames = (style.text() for _ in range(4))
        self._plots = [style.plot() for _ in range(3 + len(SWITCHES))]
        self.panel.cap("centres", session.per_class, f"here at most {session.per_class}, the clips of a class")
        self._limits: tuple[Any, ...] = ()
        self._cap()
        self.draw(look)
        self.strip.fill(look.formed)
        self.desk.remember(look, self.asked())
        self.bar.run_button.on_click(self.run)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.label.param.watch(self._classed, "value")
        self.label.param.watch(self._turned, "value")
        self.model.param.watch(self._turned, "value")
        self.teacher.param.watch(self._turned, "value")
        self.prompt.param.watch(self.run, "enter_pressed")
        self.prompt.param.watch(self._typed, "value")

    def draw(self, look: Look) -> None:
        """Show everything that a setting gives."""
        self.player.load(shown(look), alt_text(look))
        self._made.object, self._tiles.object, self._alarms.object = made_html(look), tiles_html(look), alarms_html(look)
        self._sums.object, self._numbers.object, self._seen.object = sums_html(look), numbers_html(look), seen_html(look)
        self._frames.object = frames_html(shown(look) | {CENTRE: look.centre})
        for plot, figure in zip(self._plots, figures(look), strict=True):
            plot.object = figure
        self._length = look.centre.shape[1]
        self._draw_decay()

    def _draw_decay(self) -> None:
        self._curve.object = decay_html(self.panel.values["decay"], self._length, self.panel.values["strength"])

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now."""
        who = {"label": self.label.value, "prompt": self.prompt.value, "model": self.model.value, "teacher": self.teacher.value}
        return who | self.panel.values | {"seed": self.panel.seed, "per_class": self._session.per_class}

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings."""
        who = (settings["label"], settings["prompt"], settings["model"], settings["teacher"])
        return self._session.steps(*who, {name: settings[name] for name in KNOBS}, seed=settings["seed"], previews=previews)

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        self._hint.object = ""
        on = [name for name, knob in SWITCHES.items() if self.panel.values[knob]]
        self.strip.begin([ALONE, *(only(name) for name in on if len(on) > 1), ALL])
        await self.desk.run()

    def present(self, result: Preview | Look, settings: Mapping[str, Any]) -> None:
        """Draw a preview or a look."""
        if isinstance(result, Preview):
            self.strip.add(result)
            return
        if result.formed:  # the same look once more, now with its previews
            self.strip.fill(result.formed)
        else:
            self.draw(result)
        self.desk.remember(result, settings)

    def recall(self, settings: Mapping[str, Any], look: Look) -> None:
        """Set the page as it was for a look, and draw it; nothing is sampled again."""
        with self.desk.recalled(settings, look):
            self._hint.object = ""
            self.label.value, self.prompt.value = settings["label"], settings["prompt"]
            self.model.value, self.teacher.value = settings["model"], settings["teacher"]
            self.panel.set({name: settings[name] for name in ("sampling_steps", "points")})  # they limit the others
            self._cap()
            self.draw(look)
            self.panel.set({name: settings[name] for name in KNOBS})
            self.panel.seed = settings["seed"]
            self.strip.fill(look.formed)

    def clip(self, look: Look) -> Tensor:
        """Return the clip with all operators."""
        return look.takes[ALL].clip

    def clips(self, look: Look) -> dict[str, Tensor]:
        """Return all clips by name."""
        return look.clips

    def numbers(self, look: Look) -> dict[str, float | None]:
        """Return what is measured of the clip with all operators, and how its effects add up."""
        take, found = look.takes[ALL], {name: look.numbers[name][ALL] for name in MEASURED}
        right, asked = take.score
        found |= {"words_right": right / asked if asked else None, "evaluations": take.evaluations, "seconds": take.seconds}
        return found | {"share": look.adds.share if look.adds else None, "cosine": look.adds.cosine if look.adds else None}

    def forming(self, look: Look) -> None:
        """Return None: four clips are sampled, and none of them alone is forked."""

    def _classed(self, event: Any) -> None:
        """Let a class bring its prompt; one that somebody wrote stays."""
        if not self.desk.recalling and self.prompt.value == self._session.prompt(event.old):
            self.prompt.value = self._session.prompt(event.new)

    async def _turned(self, *events: Any) -> None:
        self._draw_decay()
        self._cap()
        await self.desk.follow()

    def _forecast(self) -> int:
        names = [self.model.value, *([] if self.teacher.value == SELF else [self.teacher.value])]
        return self._session.zoo.forecast(*names)

    async def _typed(self, event: Any) -> None:
        model, prompt = self.model.value, self.prompt.value
        teacher = self.teacher.value if self.panel.values["teach"] else SELF
        if (hint := await self.bar.hint(lambda: self._session.check(model, teacher, prompt))) is not None:
            self._hint.object = hint

    def _cap(self) -> None:
        """Hold steps, eta, I, tau and the teacher's points to what the two models allow. While these stay no control is touched: one may be
        on its way."""
        zoo, name, values = self._session.zoo, self.model.value, self.panel.values
        teacher = name if self.teacher.value == SELF else self.teacher.value
        limits = name, teacher, values["sampling_steps"], values["points"], values["centres"]
        if limits == self._limits:
            return
        self._limits = limits
        own, inner = len(times_of(zoo.folder(name))), len(times_of(zoo.folder(teacher)))
        noisy = zoo.adds_noise(name)
        self.panel.cap("sampling_steps", own or STEPS, f"{name} was trained for {own}; 0 takes them" if own else f"here at most {STEPS}")
        steps = self.panel.values["sampling_steps"] or zoo.own(name)["steps"]
        self.panel.cap("eta", int(noisy), "0: DDIM, 1: DDPM" if noisy else f"none: {name} samples a flow")
        self.panel.cap("guided", steps, f"here at most {steps}, all steps")
        points = inner + 1 if inner else guide.POINTS
        self.panel.cap("points", points, f"{teacher} has {inner} times" if inner else f"here at most {points}")
        tau = self.panel.values["points"] - 1
        self.panel.cap("tau", tau, f"here at most {tau}")
        count = self.panel.values["centres"]
        self.panel.cap("pick", count, f"here 1 to {count}" if count > 1 else "there is one")

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self.prompt, self._hint, self.bar, self.desk.keys)
        left = style.card("Models and knobs", self.label, self.model, self.teacher, self.panel)
        effects, adding, nearness, *ledgers = self._plots
        clips = [self.player, self._made, self._alarms]
        centre = [
            style.card("Alone, one by one, together", *clips, note="the same noise and the same guidance; operators differ, nothing else"),
            style.card("What all together came to", self._tiles),
            style.card("What is in them", self._seen, note="read from the pixels by the exact parser, beside what the prompt asks"),
            style.card("As they form", self.strip, note="one frame of the clean clip that the model predicts after a step"),
            style.card("Frame by frame", self._frames, note="the last row is the centre that pulls"),
        ]
        pressed = "size of the change with all together: of the clean clip, of the low-pass the noisy one"
        right = [
            style.card("Do effects add up?", self._sums, effects, note="an effect: what the latents differ by from the model alone's"),
            style.card("Adding up along the steps", adding, note="of the clean clip predicted after a step; dashes: they add up"),
            style.card("Distance to the centre", nearness, note="of the clean clip that is predicted after each step"),
            *(
                style.card(f"Force of the {name}, per step and frame", plot, note=pressed)
                for name, plot in zip(SWITCHES, ledgers, strict=True)
            ),
            style.card("Every number", self._numbers, note="drift and motion are exact; probes stand in for VBench's networks"),
        ]
        note = "A pull, a teacher and a filter bend one clip. Switch them: each alone and all together have the same noise."
        head = style.title("Operators, composed", note, margin=(0, 0, 12, 0))
        page = style.page(head, top, left=[left], centre=centre, right=right)
        page.append(self.desk)
        return page
