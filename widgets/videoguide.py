"""The pane of glass over VideoGuide: models and knobs left, base, teacher and guided clip on one clock, the steering right."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import panel as pn

from vidistill.lab.previews import Preview
from vidistill.lab.videoguide_session import BASE, GUIDED, KNOBS, MORE, SELF, SUBJECT, TEACHER, Look, VideoGuideSession, presets
from vidistill.widgets import style
from vidistill.widgets.gvd import CELL, STEPS
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player, png
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.steer import forces_figure, mask_figure, paths_figure, plane_figure, scales_figure
from vidistill.widgets.strip import Strip, film_strip, frames_html, strip_html, strip_words
from vidistill.widgets.zoo import readings_html

ITSELF = "the base itself"
POINTS = 50  # more points of the inner grid nobody waits for
TRAIL = 30  # earlier settings that are still shown
WORDS = {
    "beta": "interpolation beta",
    "guided": "guided steps  I",
    "tau": "teacher evaluations  tau",
    "space": "cut-off in space  d_s",
    "time": "cut-off in time  d_t",
    "inside": "guided steps by",
    "outside": "other steps by",
    "lam": "scale of CFG++  lam",
    "points": "points of the inner grid",
    "t_map": "teacher begins at",
    "scale": "teacher's input scale  k",
    "filter": "mask  M",
}
USES = {
    **dict.fromkeys(("beta", "space"), lambda k: k["guided"] > 0),
    **dict.fromkeys(("tau", "points", "t_map", "scale"), lambda k: k["guided"] > 0 and k["beta"] < 1),
    **dict.fromkeys(("time", "filter"), lambda k: k["guided"] > 0 and k["space"] > 0),
    "order": lambda k: k["guided"] > 0 and k["space"] > 0 and k["filter"] == "butterworth",
    "inside": lambda k: k["guided"] > 0,
    "lam": lambda k: k["outside"] == "cfg++" or (k["guided"] > 0 and k["inside"] == "cfg++"),
}
MEASURES = {
    "drift_any": ("drift", "frames that show another object or scene than the clip", ".0%"),
    "drift_shape": ("of the shape", "", ".0%"),
    "drift_colour": ("of the colour", "", ".0%"),
    "drift_background": ("of the background", "", ".0%"),
    "motion": ("motion", "path of the object, half widths a clip", ".2f"),
    SUBJECT: ("subject consistency", "offline probe, not DINO", ".3f"),
    "probe_background_consistency": ("background consistency", "offline probe, not CLIP", ".3f"),
    "probe_motion_smoothness": ("motion smoothness", "offline probe, not AMT", ".3f"),
    "probe_flow_magnitude": ("flow of the fastest", "pixels a frame; offline probe, not RAFT", ".2f"),
}


def captions(look: Look) -> dict[str, str]:
    """Return what each clip is called: who made it, and how."""
    by = "by itself" if look.teacher == SELF else f"by {look.teacher}"
    said = {BASE: f"{look.base} alone", TEACHER: f"{look.teacher} alone", GUIDED: f"{look.base} guided {by}"}
    return {name: said[name] for name in look.takes}


def tiles_html(look: Look) -> str:
    """Return six tiles of the guided clip, each above the same number of the others."""

    def under(name: str, form: str) -> str:
        return ", ".join(f"{clip.split()[0]} {style.number(value, form)}" for clip, value in look.numbers[name].items() if clip != GUIDED)

    others = {clip.split()[0]: take for clip, take in look.takes.items() if clip != GUIDED}
    last = look.takes[GUIDED]
    tiles = (
        ("drift", style.number(look.numbers["drift_any"][GUIDED], ".0%"), "drift", under("drift_any", ".0%")),
        ("motion", style.number(look.numbers["motion"][GUIDED], ".2f"), "motion", under("motion", ".2f")),
        ("consistency", style.number(look.numbers[SUBJECT][GUIDED], ".3f"), "subject consistency", under(SUBJECT, ".3f")),
        (
            "right",
            "{} of {}".format(*last.score),
            "words are right",
            ", ".join("{} {} of {}".format(who, *one.score) for who, one in others.items()),
        ),
        ("evaluations", f"{last.evaluations}", "network evaluations", ", ".join(f"{who} {one.evaluations}" for who, one in others.items())),
        ("seconds", f"{last.seconds:.2f}", "seconds", ", ".join(f"{who} {one.seconds:.2f}" for who, one in others.items())),
    )
    cells = "".join(style.tile(*tile) for tile in tiles)
    looks = "display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px"
    return f'<div role="status" aria-live="polite" style="{looks}">{cells}</div>'


def numbers_html(look: Look) -> str:
    """Return the measures of all clips, one column a clip."""
    head = "".join(f'<th scope="col" style="{CELL}">{html.escape(said)}</th>' for said in captions(look).values())
    rows = "".join(
        f'<tr><th scope="row" style="{CELL};font-weight:600">{what}'
        + (f'<div style="font-weight:400;font-size:11.5px;color:{style.MUTED}">{how}</div></th>' if how else "</th>")
        + "".join(f'<td style="{CELL}">{style.number(look.numbers[key][name], form)}</td>' for name in look.takes)
        + "</tr>"
        for key, (what, how, form) in MEASURES.items()
    )
    return f'<table style="border-collapse:collapse;width:100%;font-size:12.5px"><tr><td style="{CELL}"></td>{head}</tr>{rows}</table>'


def seen_html(look: Look) -> str:
    """Return what the exact parser reads in each clip beside what the prompt asks, and what each clip cost."""
    said = captions(look)
    return readings_html([replace(take, model=said[name]) for name, take in look.takes.items()])


def alarms_html(look: Look) -> str:
    """Return the failures that a look shows, each with a sign and a name, or that there is none."""
    return style.alarms(look.alarms, "the object still moves, drifts hardly more than the base's, and no word is lost")


def alt_text(look: Look) -> str:
    """Say in words what the player shows."""
    said = ", ".join(
        f"{name} ({look.takes[clip].score[0]} of {look.takes[clip].score[1]} words right, drift "
        f"{style.number(look.numbers['drift_any'][clip], '.0%')})"
        for clip, name in captions(look).items()
    )
    return f'The prompt "{look.prompt}", playing in step from the same noise: {said}'


def made_html(look: Look) -> str:
    """Return how the clips were made."""
    k = look.values
    how = f"seed {look.seed}, {k['sampling_steps']} steps, guidance {k['guidance']:g}; {look.guided}, tau {k['tau']}, beta {k['beta']:g}"
    known = f" · known before: {', '.join(look.remembered)}" if look.remembered else ""
    return f'<span style="color:{style.MUTED}">{html.escape(look.prompt) or "(empty prompt)"} · {html.escape(how)}{known}</span>'


def figures(look: Look, earlier: Sequence[tuple[float, float]] = ()) -> tuple[dict[str, Any], ...]:
    """Return the five figures: drift and motion on the way, one against the other, forces, guidance, mask."""
    points = {name: (look.numbers["motion"][name], look.numbers[SUBJECT][name]) for name in look.takes}
    return (
        paths_figure(look.paths, look.values["guided"], look.values["sampling_steps"]),
        plane_figure(points, earlier),
        forces_figure(look.forces, look.guided),
        scales_figure(look.ways, look.scales, look.values["guidance"]),
        mask_figure(look.mask, look.axes, look.kept, look.modes),
    )


def static_views(look: Look) -> list[Any]:
    """Return the views of a look for a run without a screen: film and strip as PNG, plots as figures, verdicts as HTML."""
    from IPython.display import HTML, Image

    player = Player()
    player.load(look.clips, alt_text(look))
    return [
        Image(data=player.apng(), alt=alt_text(look)),
        HTML(made_html(look)),
        HTML(tiles_html(look)),
        HTML(alarms_html(look)),
        HTML(numbers_html(look)),
        HTML(seen_html(look)),
        Image(data=png(film_strip(look.clips)), alt=strip_words(look.clips)),
        HTML(strip_html(look.formed)),
        *(style.Static(figure) for figure in figures(look)),
    ]


class VideoGuideBench(pn.viewable.Viewer):
    """Pick a base and a teacher, turn beta: the guided clip forms beside the two, and the page says what the teacher did.

    Args:
        session: the models.
        look: the first state.
        knobs: the values that made it, as they were asked for.
    """

    def __init__(self, session: VideoGuideSession, look: Look, knobs: dict[str, Any], **params: Any) -> None:
        super().__init__(**params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session = session
        self._quiet = False
        self._presets = presets()
        teachers = {ITSELF if name == SELF else name: name for name in session.teachers}
        self.prompt = pn.widgets.TextInput(name="prompt", value=look.prompt, **wide)
        self.base = pn.widgets.Select(name="base model", options=session.zoo.names, value=look.base, **wide)
        self.teacher = pn.widgets.Select(name="teacher", options=teachers, value=look.teacher, **wide)
        self._other = look.teacher
        values = {name: {knob: value for knob, value in one.items() if knob != "teacher"} for name, one in self._presets.items()}
        self.panel = KnobPanel(KNOBS, presets=values, start=knobs, uses=USES, words=WORDS, folded=MORE, seed=look.seed)
        self.bar = RunBar(label="Run")
        self.player = Player()
        self.strip = Strip(look.takes)
        self._hint = style.text("")
        self._made, self._tiles, self._alarms = style.text(margin=(6, 0, 0, 0)), style.text(), style.text(margin=(8, 0, 0, 0))
        self._numbers, self._seen, self._frames = style.text(), style.text(), style.text()
        self._plots = [style.plot() for _ in range(5)]
        self._trail: tuple[tuple[Any, ...], list[tuple[float, float]]] = ((), [])
        self._cap("sampling_steps", STEPS, f"here at most {STEPS}")
        self._cap("points", POINTS, f"here at most {POINTS}")
        self._cap_by_base()
        self.draw(look)
        self.strip.fill(look.formed)
        self.bar.run_button.on_click(self.run)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.panel.preset.param.watch(self._preset, "value")
        self.base.param.watch(self._based, "value")
        self.teacher.param.watch(self._taught, "value")
        self.prompt.param.watch(self.run, "enter_pressed")
        self.prompt.param.watch(self._typed, "value")

    def draw(self, look: Look) -> None:
        """Show everything that a setting gives."""
        said = captions(look)
        self.player.load({said[name]: clip for name, clip in look.clips.items()}, alt_text(look))
        self._made.object, self._tiles.object, self._alarms.object = made_html(look), tiles_html(look), alarms_html(look)
        self._numbers.object, self._seen.object, self._frames.object = numbers_html(look), seen_html(look), frames_html(look.clips)
        place = (look.prompt, look.base, look.teacher, look.seed)
        earlier = self._trail[1] if self._trail[0] == place else []
        self._plot(look, earlier)
        motion, steady = look.numbers["motion"][GUIDED], look.numbers[SUBJECT][GUIDED]
        here = [] if motion is None or steady is None else [(motion, steady)]
        self._trail = place, [*earlier, *here][-TRAIL:]

    def _plot(self, look: Look, earlier: Sequence[tuple[float, float]]) -> None:
        for plot, figure in zip(self._plots, figures(look, earlier), strict=True):
            plot.object = figure

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        asked = (self.prompt.value, self.base.value, self.teacher.value, dict(self.panel.values))
        seed = self.panel.seed
        self._hint.object = ""
        self.strip.begin([BASE, GUIDED] if asked[2] in (SELF, asked[1]) else [BASE, TEACHER, GUIDED])
        await self.bar.run(lambda: self._session.steps(*asked, seed=seed), self._show)

    def _show(self, result: Preview | Look) -> None:
        if isinstance(result, Preview):
            self.strip.add(result)
        elif result.formed:  # the same look once more, now with what was seen on the way
            self.strip.fill(result.formed)
            self._plots[0].object = figures(result)[0]
        else:
            self.draw(result)

    async def _turned(self, *events: Any) -> None:
        if not self._quiet:
            self._cap_by_base()
            await self.run()

    async def _based(self, event: Any) -> None:
        self._cap_by_base()
        await self.run()

    async def _taught(self, event: Any) -> None:
        self._other = event.new if event.new != SELF else self._other
        await self.run()

    def _preset(self, event: Any) -> None:
        """Let a preset pick the teacher where it says who: the base itself, or not."""
        if event.new not in self._presets or self.panel.mirroring:
            return
        if self._presets[event.new]["teacher"] == SELF:
            self.teacher.value = SELF
        elif self.teacher.value == SELF:
            named = [self._other, *(name for name in self._session.zoo.names if name != self.base.value)]
            self.teacher.value = next((name for name in named if name != SELF), SELF)

    async def _typed(self, event: Any) -> None:
        base, teacher, prompt = self.base.value, self.teacher.value, self.prompt.value
        if (hint := await self.bar.hint(lambda: self._session.check(base, teacher, prompt))) is not None:
            self._hint.object = hint

    def _cap_by_base(self) -> None:
        """Hold eta, I and tau to what the base and the steps allow."""
        name, values = self.base.value, self.panel.values
        noisy = self._session.zoo.adds_noise(name)
        steps = values["sampling_steps"] or self._session.zoo.own(name)["steps"]
        self._cap("eta", int(noisy), "0: DDIM, 1: DDPM" if noisy else f"none: {name} samples a flow")
        self._cap("guided", steps, f"here at most {steps}, all steps")
        self._cap("tau", values["points"] - 1, f"here at most {values['points'] - 1}")

    def _cap(self, name: str, high: int, why: str) -> None:
        """Limit a knob without a run."""
        self._quiet = True
        self.panel.cap(name, high, why)
        self._quiet = False

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self.prompt, self._hint, self.bar)
        left = style.card("Models and knobs", self.base, self.teacher, self.panel)
        paths, plane, forces, scales, mask = self._plots
        centre = [
            style.card(
                "Base, teacher, guided",
                self.player,
                self._made,
                self._alarms,
                note="the same noise, each model alone and the base steered by the teacher",
            ),
            style.card("What the teacher did", self._tiles),
            style.card("What is in them", self._seen, note="read from the pixels by the exact parser, beside what the prompt asks"),
            style.card("As they form", self.strip, note="one frame of the clean clip that the model predicts after a step"),
            style.card("Frame by frame", self._frames),
        ]
        right = [
            style.card("Drift and motion on the way", paths, note="of the clean clip predicted after a step; dashes end the guided steps"),
            style.card("Consistency against motion", plane, note="a still picture is at the top left; rings: your earlier settings"),
            style.card(
                "Force of each step", forces, note="size of the change: the teacher's of the clean clip, the filter's of the noisy one"
            ),
            style.card("How hard the prompt pulls", scales, note="the g of ordinary guidance that makes the same step"),
            style.card("The low-pass mask", mask, note="f_W is 0; dots: kept after a guided step, the rest is drawn anew"),
            style.card("Every number", self._numbers, note="drift and motion are exact; probes stand in for VBench's networks"),
        ]
        note = "On the first steps a teacher bends what the base predicts. Turn beta: base, teacher and guided clip have the same noise."
        return style.page(
            style.title("A teacher steers the sampler", note, margin=(0, 0, 12, 0)), top, left=[left], centre=centre, right=right
        )
