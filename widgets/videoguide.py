"""The pane of glass over VideoGuide: models and knobs left, base, teacher and guided clip on one clock, the steering right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import panel as pn
from torch import Tensor

from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.lab.until import SETTING
from vidistill.lab.videoguide_session import BASE, GUIDED, KNOBS, MORE, SELF, SUBJECT, TEACHER, Look, VideoGuideSession, presets
from vidistill.widgets import compare, style
from vidistill.widgets.desk import Desk
from vidistill.widgets.gvd import STEPS
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player, png
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.steer import forces_figure, mask_figure, paths_figure, plane_figure, scales_figure
from vidistill.widgets.strip import Strip, film_strip, frames_html, strip_html, strip_words
from vidistill.widgets.videoguide_words import alarms_html, alt_text, captions, made_html, numbers_html, seen_html, tiles_html

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
        *compare.static_views(look.clips[BASE], look.clips[GUIDED], (BASE, GUIDED)),
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
        super().__init__(name="videoguide", **params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session, self.knobs = session, KNOBS
        self._presets = presets()
        teachers = {ITSELF if name == SELF else name: name for name in session.teachers}
        self.prompt = pn.widgets.TextInput(name="prompt", value=look.prompt, **wide)
        self.base = pn.widgets.Select(name="base model", options=session.zoo.names, value=look.base, **wide)
        self.teacher = pn.widgets.Select(name="teacher", options=teachers, value=look.teacher, **wide)
        self._other = look.teacher
        values = {name: {knob: value for knob, value in one.items() if knob != "teacher"} for name, one in self._presets.items()}
        self.panel = KnobPanel(KNOBS, presets=values, start=knobs, uses=USES, words=WORDS, folded=MORE, seed=look.seed)
        self.bar = RunBar(label="Run", forecast=self._forecast)
        self.player = Player()
        self.strip = Strip(look.takes)
        self.desk = Desk(self)
        self._hint = style.text("")
        self._made, self._tiles, self._alarms = style.text(margin=(6, 0, 0, 0)), style.text(), style.text(margin=(8, 0, 0, 0))
        self._numbers, self._seen, self._frames = style.text(), style.text(), style.text()
        self._plots = [style.plot() for _ in range(5)]
        self._trail: tuple[tuple[Any, ...], list[tuple[float, float]]] = ((), [])
        self.panel.cap("sampling_steps", STEPS, f"here at most {STEPS}")
        self.panel.cap("points", POINTS, f"here at most {POINTS}")
        self._limits: tuple[Any, ...] = ()
        self._cap()
        self.draw(look)
        self.strip.fill(look.formed)
        self.desk.remember(look, self.asked())
        self.bar.run_button.on_click(self.run)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.panel.preset.param.watch(self._preset, "value")
        self.base.param.watch(self._turned, "value")
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
        self._trail = place, [*(point for point in earlier if point not in here), *here][-TRAIL:]

    def _plot(self, look: Look, earlier: Sequence[tuple[float, float]]) -> None:
        for plot, figure in zip(self._plots, figures(look, earlier), strict=True):
            plot.object = figure

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now."""
        who = {"prompt": self.prompt.value, "base": self.base.value, "teacher": self.teacher.value}
        return who | self.panel.values | {"seed": self.panel.seed}

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings."""
        who = (settings["prompt"], settings["base"], settings["teacher"])
        values, until = {name: settings[name] for name in KNOBS}, settings.get(SETTING, "")
        return self._session.steps(*who, values, seed=settings["seed"], previews=previews, until=until)

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        self._hint.object = ""
        self.strip.begin([BASE, GUIDED] if self.teacher.value in (SELF, self.base.value) else [BASE, TEACHER, GUIDED])
        await self.desk.run()

    def present(self, result: Preview | Look, settings: Mapping[str, Any]) -> None:
        """Draw a preview or a look."""
        if isinstance(result, Preview):
            self.strip.add(result)
            return
        if result.formed:  # the same look once more, now with what was seen on the way
            self.strip.fill(result.formed)
            self._plots[0].object = figures(result)[0]
        else:
            self.draw(result)
        self.desk.remember(result, settings)

    def recall(self, settings: Mapping[str, Any], look: Look) -> None:
        """Set the page as it was for a look, and draw it; nothing is sampled again."""
        with self.desk.recalled(settings, look):
            self._hint.object = ""
            self.prompt.value, self.base.value, self.teacher.value = settings["prompt"], settings["base"], settings["teacher"]
            self.panel.set({name: settings[name] for name in ("sampling_steps", "points")})  # they limit the others
            self._cap()
            self.panel.set({name: settings[name] for name in KNOBS})
            self.panel.seed = settings["seed"]
            self.draw(look)
            self.strip.fill(look.formed)

    def clip(self, look: Look) -> Tensor:
        """Return the guided clip."""
        return look.takes[GUIDED].clip

    def clips(self, look: Look) -> dict[str, Tensor]:
        """Return all clips by name."""
        return look.clips

    def numbers(self, look: Look) -> dict[str, float | None]:
        """Return what is measured of the guided clip."""
        take, named = look.takes[GUIDED], {"drift": "drift_any", "motion": "motion", "subject consistency": SUBJECT}
        measured = {name: look.numbers[key][GUIDED] for name, key in named.items()}
        return measured | {"words right": take.score[0], "evaluations": take.evaluations, "seconds": take.seconds}

    def forming(self, look: Look) -> tuple[Sequence[Preview], int]:
        """Return the guided clip's previews, and its steps."""
        return look.formed.get(GUIDED, ()), look.values["sampling_steps"]

    async def _turned(self, *events: Any) -> None:
        self._cap()
        await self.desk.follow()

    async def _taught(self, event: Any) -> None:
        self._other = event.new if event.new != SELF else self._other
        await self.desk.follow()

    def _preset(self, event: Any) -> None:
        """Let a preset pick the teacher where it says who: the base itself, or not."""
        if event.new not in self._presets or self.panel.mirroring:
            return
        if self._presets[event.new]["teacher"] == SELF:
            self.teacher.value = SELF
        elif self.teacher.value == SELF:
            named = [self._other, *(name for name in self._session.zoo.names if name != self.base.value)]
            self.teacher.value = next((name for name in named if name != SELF), SELF)

    def _forecast(self) -> int:
        names = [self.base.value, *([] if self.teacher.value == SELF else [self.teacher.value])]
        return self._session.zoo.forecast(*names)

    async def _typed(self, event: Any) -> None:
        base, teacher, prompt = self.base.value, self.teacher.value, self.prompt.value
        if (hint := await self.bar.hint(lambda: self._session.check(base, teacher, prompt))) is not None:
            self._hint.object = hint

    def _cap(self) -> None:
        """Hold eta, I and tau to what the base and the steps allow. While these stay no control is touched: one may be on its way."""
        name, points = self.base.value, self.panel.values["points"]
        steps = self.panel.values["sampling_steps"] or self._session.zoo.own(name)["steps"]
        if (name, steps, points) == self._limits:
            return
        self._limits = name, steps, points
        noisy = self._session.zoo.adds_noise(name)
        self.panel.cap("eta", int(noisy), "0: DDIM, 1: DDPM" if noisy else f"none: {name} samples a flow")
        self.panel.cap("guided", steps, f"here at most {steps}, all steps")
        self.panel.cap("tau", points - 1, f"here at most {points - 1}")

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self.prompt, self._hint, self.bar, self.desk.keys)
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
        head = style.title("A teacher steers the sampler", note, margin=(0, 0, 12, 0))
        page = style.page(head, top, left=[left], centre=centre, right=right)
        page.append(self.desk)
        return page
