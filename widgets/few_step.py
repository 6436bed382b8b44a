"""The pane of glass over few steps: a teacher, its students and the untrained teacher, each shown when it is ready, then all in step."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import panel as pn
import torch
from torch import Tensor

from vidistill.lab.few_step_session import ANEW, EULER, KNOBS, TEACHER, Clips, FewStepSession, clock
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.widgets import style, theme
from vidistill.widgets.desk import Desk
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.strip import Strip, frames_html
from vidistill.widgets.zoo import readings_html

FPS = 8
WIDTH = 240  # pixels of the screen that a clip is shown on, at most
NONE = "none"  # instead of the students' names; the notebook's empty parameter is all of them
CLOCK = "on one clock: a clip is grey until its seconds are over"
RULES = {"sde": "re-noised", "ode": "Euler"}
SHOWN = {
    "faster": ("times as fast", "seconds of the teacher over the clip's", ".1f"),
    "drift": ("drift", "frames that show another object or scene", ".0%"),
    "motion": ("motion", "path of the object, half widths a clip", ".2f"),
    "saturation": ("saturation", "over the teacher's", ".0%"),
    "contrast": ("contrast", "over the teacher's", ".0%"),
}
WORDS = {"steps": "teacher's steps", "guidance": "teacher's guidance", "few": "untrained steps  m", "renoise": "students are sampled"}


def captions(found: Clips) -> dict[str, str]:
    """Return what each clip is called: who made it, in how many steps, by which rule."""
    said = {}
    for name, take in found.takes.items():
        steps = f"{take.steps} step{'' if take.steps == 1 else 's'}"
        who = found.teacher if name == TEACHER else "untrained" if name in (EULER, ANEW) else name
        said[name] = f"{who}, {steps}" if name == TEACHER else f"{who}, {steps}, {RULES[found.rules[name]]}"
    return said


def one_clock(found: Clips) -> tuple[dict[str, Tensor], float]:
    """Return the clips as one film that begins with the sampling: a clip is grey, with a bar that fills, until its seconds are over.

    Returns:
        name -> uint8 ``[3, T', H, W]``; and how many seconds of sampling pass in one of the film.
    """
    frames = next(iter(found.clips.values())).shape[1]
    shown, pace = clock({name: take.seconds for name, take in found.takes.items()}, frames, FPS)
    films = {}
    for name, order in shown.items():
        clip, wait = found.clips[name], order.count(-1)
        films[name] = torch.stack([clip[:, k] if k >= 0 else _waiting(clip, j / max(wait, 1)) for j, k in enumerate(order)], 1)
    return films, pace


def _waiting(clip: Tensor, share: float) -> Tensor:
    """Draw the picture of a clip that is not ready, uint8 ``[3, H, W]``."""
    _, _, height, width = clip.shape
    picture = torch.full((3, height, width), 226, dtype=torch.uint8)
    top, edge = height // 2 - 2, width // 8
    picture[:, top : top + 4, edge : width - edge] = 190
    picture[:, top : top + 4, edge : edge + round(share * (width - 2 * edge))] = 60
    return picture


def tiles_html(found: Clips) -> str:
    """Return a tile a clip: its seconds, its evaluations, and how much faster than the teacher it was."""

    def under(name: str) -> str:
        faster = found.numbers["faster"][name]
        speed = "" if name == TEACHER or faster is None else f", <b>{faster:.1f} x</b> as fast"
        return f"{found.takes[name].evaluations} evaluations{speed}"

    said = captions(found)
    cells = "".join(
        style.tile(f"seconds-{place}", f"{take.seconds:.2f} s", html.escape(said[name]), under(name))
        for place, (name, take) in enumerate(found.takes.items())
    )
    looks = "display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px"
    return f'<div role="status" aria-live="polite" style="{looks}">{cells}</div>'


def numbers_html(found: Clips) -> str:
    """Return the measures of all clips, one row a clip."""
    small = f"font-weight:400;font-size:11.5px;color:{theme.MUTED}"
    head = "".join(f'<th scope="col" style="{style.CELL}">{what}<div style="{small}">{how}</div></th>' for what, how, _ in SHOWN.values())
    rows = "".join(
        f'<tr><th scope="row" style="{style.CELL};font-weight:600">{html.escape(said)}</th>'
        + "".join(f'<td style="{style.CELL}">{style.number(found.numbers[key][name], form)}</td>' for key, (_, _, form) in SHOWN.items())
        + "</tr>"
        for name, said in captions(found).items()
    )
    return style.table(head, rows)


def alarms_html(found: Clips) -> str:
    """Return the failures that clips show, each with a sign and a name, or that there is none; and whether there is any student."""
    if not found.students:
        note = "No few-step student is chosen: those of the zoo are not there yet, or name folders of your own in the parameter students."
        return f'<div role="status">{note}</div>'
    if TEACHER not in found.takes and not found.alarms:
        return '<div role="status">The teacher is still at work; students are measured against it.</div>'
    return style.alarms(
        found.alarms, "students are sampled as they were trained, and neither washed out, saturated nor worse than untrained"
    )


def seen_html(found: Clips) -> str:
    """Return what the exact parser reads in each clip beside what the prompt asks, and what each clip cost."""
    said = {name: caption.split(",")[0] for name, caption in captions(found).items()}
    said |= {name: f"untrained, {RULES[found.rules[name]]}" for name in (EULER, ANEW) if name in said}
    return readings_html([replace(take, model=said[name]) for name, take in found.takes.items()])


def alt_text(found: Clips) -> str:
    """Say in words what the player shows."""
    said = captions(found)
    each = ", ".join(
        "{} ({:.2f} s, {} of {} words right)".format(said[name], take.seconds, *take.score) for name, take in found.takes.items()
    )
    return f'The prompt "{found.prompt}", from the same noise, each clip shown when it was ready: {each}'


def made_html(found: Clips, pace: float) -> str:
    """Return how the clips were made."""
    k = found.values
    how = f"seed {found.seed}, teacher in {k['steps']} steps, guidance {k['guidance']:g}"
    known = f" · known before: {', '.join(found.remembered)}" if found.remembered else ""
    fast = f" · the clock runs {pace:.1f} times as fast" if pace > 1 else ""
    return f'<span style="color:{theme.MUTED}">{html.escape(found.prompt) or "(empty prompt)"} · {how}{html.escape(known)}{fast}</span>'


def _by_caption(found: Clips) -> dict[str, Tensor]:
    said = captions(found)
    return {said[name].replace(", ", " "): clip for name, clip in found.clips.items()}


def _first(found: Clips) -> str:
    """Return the clip that counts: the first student's, the teacher's where there is none."""
    return next(iter(found.students), TEACHER)


def _names(settings: Mapping[str, Any]) -> list[str]:
    return [name for name in settings["students"].split(", ") if name != NONE]


def static_views(found: Clips) -> list[Any]:
    """Return the views of clips for a run without a screen: the film as PNG, numbers and failures as HTML."""
    from IPython.display import HTML, Image

    player, said = Player(FPS), captions(found)
    player.load({said[name]: clip for name, clip in found.clips.items()}, alt_text(found))
    return [
        Image(data=player.apng(), alt=alt_text(found)),
        HTML(made_html(found, 1.0)),
        HTML(tiles_html(found)),
        HTML(alarms_html(found)),
        HTML(numbers_html(found)),
        HTML(seen_html(found)),
    ]


class FewStepBench(pn.viewable.Viewer):
    """A prompt, a teacher, its students and the untrained teacher: each clip is shown when it is ready, and then all play in step.

    Args:
        session: the models.
        found: the first state.
        knobs: the values that made it.
    """

    def __init__(self, session: FewStepSession, found: Clips, knobs: Mapping[str, Any], **params: Any) -> None:
        super().__init__(name="few_step", **params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session, self._found, self.knobs = session, found, KNOBS
        self.prompt = pn.widgets.TextInput(name="prompt", value=found.prompt, **wide)
        self.students = pn.widgets.CheckBoxGroup(name="students", options=session.students, value=list(session.students), **wide)
        self.on_clock = pn.widgets.CheckBoxGroup(options=[CLOCK], value=[CLOCK], **{**wide, "margin": (8, 0, 0, 0)})
        start = {name: knobs[name] for name in KNOBS}
        self.panel = KnobPanel(KNOBS, start=start, words=WORDS, seed=found.seed)
        self.bar = RunBar(label="Run", forecast=lambda: session.zoo.forecast(session.teacher, *self.students.value))
        self.player = Player(FPS)
        self.strip = Strip([TEACHER])
        self.desk = Desk(self)
        self._screen = pn.Column(self.player, sizing_mode="stretch_width", margin=0)
        self._hint, self._made = style.text(""), style.text(margin=(6, 0, 0, 0))
        self._tiles, self._alarms = style.text(), style.text(margin=(8, 0, 0, 0))
        self._numbers, self._readings, self._frames = style.text(), style.text(), style.text()
        self.draw(found)
        self.desk.remember(found, self.asked())
        self.bar.run_button.on_click(self.run)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.students.param.watch(self._turned, "value")
        self.prompt.param.watch(self.run, "enter_pressed")
        self.prompt.param.watch(self._typed, "value")
        self.on_clock.param.watch(lambda event: self._play(self._found), "value")

    def draw(self, found: Clips) -> None:
        """Show the clips that are ready, and what they are worth."""
        self._found = found
        self._play(found)
        self._tiles.object, self._alarms.object = tiles_html(found), alarms_html(found)
        self._numbers.object, self._readings.object = numbers_html(found), seen_html(found)
        if found.whole:
            self._frames.object = frames_html(_by_caption(found))

    def _play(self, found: Clips) -> None:
        films, pace = one_clock(found) if self.on_clock.value else (found.clips, 1.0)
        said = captions(found)
        self.player.load({said[name]: film for name, film in films.items()}, alt_text(found))
        self._screen.max_width = WIDTH * len(films)
        self._made.object = made_html(found, pace)

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now."""
        who = {"prompt": self.prompt.value, "students": ", ".join(self.students.value) or NONE, "teacher": self._session.teacher}
        return who | self.panel.values | {"seed": self.panel.seed}

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings."""
        values, students = {name: settings[name] for name in KNOBS}, _names(settings)
        return self._session.steps(settings["prompt"], values, seed=settings["seed"], students=students, previews=previews)

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        self._hint.object = ""
        self.strip.begin([TEACHER])
        await self.desk.run()

    def present(self, result: Preview | Clips, settings: Mapping[str, Any]) -> None:
        """Draw a preview, or the clips so far; a run counts when all of them are there."""
        if isinstance(result, Preview):
            self.strip.add(result)
            return
        self.draw(result)
        if result.whole:
            self.desk.remember(result, settings)

    def recall(self, settings: Mapping[str, Any], look: Clips) -> None:
        """Set the page as it was for these clips, and draw them; nothing is sampled again."""
        with self.desk.recalled(settings, look):
            self._hint.object = ""
            self.prompt.value, self.students.value = settings["prompt"], _names(settings)
            self.panel.set({name: settings[name] for name in KNOBS})
            self.panel.seed = settings["seed"]
            self.strip.begin([TEACHER])
            self.draw(look)

    def clip(self, look: Clips) -> Tensor:
        """Return the first student's clip, the teacher's where there is no student."""
        return look.clips[_first(look)]

    def clips(self, look: Clips) -> dict[str, Tensor]:
        """Return all clips by name."""
        return look.clips

    def numbers(self, look: Clips) -> dict[str, float | None]:
        """Return what is measured of the clip that counts."""
        name = _first(look)
        return {what: look.numbers[what][name] for what in SHOWN} | {"seconds": look.takes[name].seconds}

    def forming(self, look: Clips) -> None:
        """Return None: four steps of a student leave nothing to fork."""

    async def _turned(self, *events: Any) -> None:
        await self.desk.follow()

    async def _typed(self, event: Any) -> None:
        prompt, students = self.prompt.value, list(self.students.value)
        if (hint := await self.bar.hint(lambda: self._session.check(prompt, students))) is not None:
            self._hint.object = hint

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self.prompt, self._hint, self.bar, self.desk.keys)
        label = style.text('<h3 style="font-size:12.5px;margin:0;font-weight:600">students</h3>')
        left = style.card("Models and knobs", label, self.students, self.panel)
        film = style.card(
            "On one clock", self._screen, self.on_clock, self._made, note="the same noise and the same prompt; then all play in step"
        )
        centre = [
            style.card(
                "Seconds", self._tiles, self._alarms, note="measured here, sampling and decoding; the untrained teacher is the control"
            ),
            style.card("What is in them", self._readings, note="read from the pixels by the exact parser, beside what the prompt asks"),
            style.card("As the teacher's forms", self.strip, note="one frame of the clean clip that it predicts after a step"),
        ]
        right = [
            style.card("Every number", self._numbers, note="of these clips alone: cards and reproduce notebooks have many"),
            style.card("Frame by frame", self._frames),
        ]
        note = "Students of few steps beside their teacher, and beside the teacher in as few steps: that is the clip each has to beat."
        head = style.title("Few steps", note, margin=(0, 0, 12, 0))
        page = style.page(head, top, film, left=[left], centre=centre, right=right)
        page.append(self.desk)
        return page
