"""The pane of glass over GVD: class and knobs left, a clip beside its unguided twin and its centre in the middle, the pull right."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import panel as pn
from torch import Tensor

from vidistill.lab.gvd_session import CENTRE, GUIDED, KNOBS, TWIN, GvdSession, Look, presets
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.lab.until import SETTING
from vidistill.widgets import compare, style, theme
from vidistill.widgets.desk import Desk
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player, png
from vidistill.widgets.pull import decay_figure, decay_html, distance_figure, force_figure, rates_figure
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.strip import Strip, film_strip, frames_html, strip_html, strip_words, uri

PULLED = ("weight", "decay", "t_high", "t_low")
USES = {name: lambda k: k["strength"] > 0 for name in PULLED}
STEPS = 100  # more than this nobody waits for
MEASURES = {
    "distance": ("distance to the centre", "rms of the latents"),
    "motion": ("motion", "share of the real clips' mean"),
    "nearest": ("distance to the nearest real clip", "rms of the latents"),
    "norm": ("norm", "share of the real clips' median"),
}


def numbers_html(look: Look) -> str:
    """Return what a pull came to: four tiles, and the measures of all three clips beside those of real ones."""
    row = look.values["pick"] - 1
    tiles = (
        ("pull", f"{look.pull:.2f}", "pull", "1 - |x - m| / |x0 - m|, x0 the twin"),
        ("way", f"{look.way:.0%}", "of the way to the centre", "along the straight line"),
        ("guided", look.guided.split(" steps")[0], "steps are guided", f"{look.values['weight']} weight"),
        ("centre", f"{row + 1} of {len(look.sizes)}", "centre", f"of {_count(look.sizes[row])}; moves {look.motions[row]:.0%} as much"),
    )
    cells = "".join(style.tile(*tile) for tile in tiles)
    columns = {**dict.fromkeys((TWIN, GUIDED, CENTRE)), "real": None}
    head = "".join(f'<th scope="col" style="{style.CELL}">{name if name != "real" else "real clips"}</th>' for name in columns)
    rows = "".join(
        f'<tr><th scope="row" style="{style.CELL};font-weight:600">{what}'
        f'<div style="font-weight:400;font-size:11.5px;color:{theme.MUTED}">{how}</div></th>'
        + "".join(f'<td style="{style.CELL}">{style.number(look.numbers[key].get(name))}</td>' for name in columns)
        + "</tr>"
        for key, (what, how) in MEASURES.items()
    )
    seen = "".join(f'<td style="{style.CELL}">{html.escape(look.readings.get(name, look.label))}</td>' for name in columns)
    read = f'<tr><th scope="row" style="{style.CELL};font-weight:600">motion that the parser reads</th>{seen}</tr>'
    table = style.table(head, rows + read)
    return f'<div role="status" aria-live="polite" style="display:flex;flex-wrap:wrap;gap:8px;margin-bottom:8px">{cells}</div>{table}'


def alarms_html(look: Look) -> str:
    """Return the failures that a look shows, each with a sign and a name, or that there is none."""
    return style.alarms(look.alarms, "nearer to its centre, and still a clip of its kind")


def centres_html(look: Look) -> str:
    """Return the centres of the class in a row; the one that pulls has a frame and says so."""
    chosen = look.values["pick"] - 1
    pictures = []
    for k, (picture, size, moves) in enumerate(zip(look.pictures, look.sizes, look.motions, strict=True)):
        frame, said = (f"4px solid {style.ORANGE}", "pulls") if k == chosen else (f"4px solid {theme.PAPER}", "")
        pictures.append(
            f'<figure style="margin:0;text-align:center;font-size:11.5px;line-height:1.3;color:{theme.MUTED}"><img src="{uri(picture)}" '
            f'width="56" height="56" style="display:block;border:{frame};border-radius:6px" alt="centre {k + 1} {said}">'
            f'<figcaption><b style="color:{theme.INK}">{k + 1} {said}</b><br>{_count(size)}<br>moves {moves:.0%}</figcaption></figure>'
        )
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:4px">{"".join(pictures)}</div>'
        f'<div style="margin-top:6px">{html.escape(look.centres[0].upper() + look.centres[1:])}.</div>'
    )


def alt_text(look: Look) -> str:
    """Say in words what the player shows."""
    said = ", ".join(f"{name} (read as {look.readings[name]})" for name in look.clips)
    return f"One class, {look.label}, playing in step: {said}; the guided clip is {look.pull:.0%} nearer to the centre than its twin"


def made_html(look: Look) -> str:
    """Return how the clips were made."""
    k = look.values
    how = f"seed {look.seed}, {look.model}, {k['sampling_steps']} steps, guidance {k['guidance']:g}, lambda {k['strength']:g}"
    how += f"; forked, until step {look.until}" if look.until else ""
    cost = f"{look.seconds:.2f} s, {look.evaluations} network evaluations{', the twin was known' if look.remembered else ''}"
    return f'<span style="color:{theme.MUTED}">{html.escape(look.prompt) or "(empty prompt)"} · {html.escape(how)} · {cost}</span>'


def figures(look: Look) -> tuple[dict[str, Any], ...]:
    """Return the four figures: along the frames, along the steps, force, distance."""
    return (
        decay_figure(look.decay, look.gone),
        rates_figure(look.rates, look.times, look.guided),
        force_figure(look.force),
        distance_figure(look.paths),
    )


def static_views(look: Look) -> list[Any]:
    """Return the views of a look for a run without a screen: film and strip as PNG, plots as figures, verdicts as HTML."""
    from IPython.display import HTML, Image

    player = Player()
    player.load(look.clips, alt_text(look))
    return [
        Image(data=player.apng(), alt=alt_text(look)),
        HTML(made_html(look)),
        HTML(numbers_html(look)),
        HTML(alarms_html(look)),
        Image(data=png(film_strip(look.clips)), alt=strip_words(look.clips)),
        HTML(strip_html(look.formed)),
        *compare.static_views(look.clips[TWIN], look.clips[GUIDED], (TWIN, GUIDED)),
        HTML(centres_html(look)),
        *(style.Static(figure) for figure in figures(look)),
    ]


def _count(clips: int) -> str:
    return f"{clips} clip{'' if clips == 1 else 's'}"


class GvdBench(pn.viewable.Viewer):
    """Pick a class and a centre, turn the pull: the guided clip forms beside its twin, and the page says what the pull did.

    Args:
        session: the models and the real clips.
        look: the first state.
        knobs: the values that made it, as they were asked for.
    """

    def __init__(self, session: GvdSession, look: Look, knobs: dict[str, Any], **params: Any) -> None:
        super().__init__(name="gvd", **params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": [style.CONTROL]}
        self._session, self.knobs = session, KNOBS
        self.label = pn.widgets.Select(name="class", options=list(session.classes), value=look.label, **wide)
        self.prompt = pn.widgets.TextInput(name="prompt", value=look.prompt, **wide)
        self.model = pn.widgets.Select(name="model", options=session.zoo.names, value=look.model, **wide)
        self._curve, self._length = style.text(margin=(0, 0, 6, 0)), len(look.decay)
        self.panel = KnobPanel(KNOBS, presets=presets(), start=knobs, uses=USES, seed=look.seed, beside={"decay": self._curve})
        self.bar = RunBar(label="Run", forecast=lambda: session.zoo.forecast(self.model.value))
        self.player = Player()
        self.strip = Strip([TWIN, GUIDED])
        self.desk = Desk(self)
        self._hint = style.text("")
        self._made, self._numbers, self._alarms = style.text(margin=(6, 0, 0, 0)), style.text(), style.text(margin=(8, 0, 0, 0))
        self._frames, self._centres = style.text(), style.text()
        self._plots = [style.plot() for _ in range(4)]
        self.panel.cap("sampling_steps", STEPS, f"here at most {STEPS}")
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
        self.prompt.param.watch(self.run, "enter_pressed")
        self.prompt.param.watch(self._typed, "value")

    def draw(self, look: Look) -> None:
        """Show everything that a setting gives."""
        self.player.load(look.clips, alt_text(look))
        self._made.object, self._numbers.object, self._alarms.object = made_html(look), numbers_html(look), alarms_html(look)
        self._frames.object, self._centres.object = frames_html(look.clips), centres_html(look)
        self._length = len(look.decay)
        self._draw_decay()
        for plot, figure in zip(self._plots, figures(look), strict=True):
            plot.object = figure

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now; without a prompt it is the class's, as in the notebook."""
        label = self.label.value
        who = {"label": label, "prompt": self.prompt.value or self._session.prompt(label), "model": self.model.value}
        return who | self.panel.values | {"seed": self.panel.seed, "per_class": self._session.per_class}

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings."""
        who = (settings["label"], settings["prompt"], settings["model"])
        values, until = {name: settings[name] for name in KNOBS}, settings.get(SETTING, "")
        return self._session.steps(*who, values, seed=settings["seed"], previews=previews, until=until)

    async def run(self, *events: Any) -> None:
        """Make the clips that the page asks for; a run under way is superseded."""
        self._hint.object = ""
        self.strip.begin([TWIN, GUIDED])
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
            self.label.value, self.prompt.value, self.model.value = settings["label"], settings["prompt"], settings["model"]
            self.panel.set({"centres": settings["centres"]})  # they limit the pick
            self._cap()
            self.panel.set({name: settings[name] for name in KNOBS})
            self.panel.seed = settings["seed"]
            self.draw(look)
            self.strip.fill(look.formed)

    def clip(self, look: Look) -> Tensor:
        """Return the guided clip."""
        return look.clips[GUIDED]

    def clips(self, look: Look) -> dict[str, Tensor]:
        """Return all clips by name."""
        return look.clips

    def numbers(self, look: Look) -> dict[str, float | None]:
        """Return what is measured of the guided clip."""
        return {"pull": look.pull, "way": look.way} | {name: look.numbers[name][GUIDED] for name in MEASURES} | {"seconds": look.seconds}

    def forming(self, look: Look) -> tuple[Sequence[Preview], int]:
        """Return the guided clip's previews, and its steps."""
        return look.formed.get(GUIDED, ()), look.values["sampling_steps"]

    def _classed(self, event: Any) -> None:
        """Let a class bring its prompt; one that somebody wrote stays."""
        if not self.desk.recalling and self.prompt.value == self._session.prompt(event.old):
            self.prompt.value = self._session.prompt(event.new)

    def _draw_decay(self) -> None:
        self._curve.object = decay_html(self.panel.values["decay"], self._length, self.panel.values["strength"])

    async def _turned(self, *events: Any) -> None:
        self._draw_decay()
        self._cap()
        await self.desk.follow()

    async def _typed(self, event: Any) -> None:
        model, prompt = self.model.value, self.prompt.value
        if (hint := await self.bar.hint(lambda: self._session.zoo.check(model, prompt))) is not None:
            self._hint.object = hint

    def _cap(self) -> None:
        """Hold eta and the pick to what the model and the centres allow. While these stay no control is touched: one may be on its way."""
        name, count = self.model.value, self.panel.values["centres"]
        if (name, count) == self._limits:
            return
        self._limits = name, count
        noisy = self._session.zoo.adds_noise(name)
        self.panel.cap("eta", int(noisy), "0: DDIM, 1: DDPM" if noisy else f"none: {name} samples a flow")
        self.panel.cap("pick", count, f"here 1 to {count}" if count > 1 else "there is one")

    def __panel__(self) -> pn.viewable.Viewable:
        top = style.card("", self.prompt, self._hint, self.bar, self.desk.keys)
        left = style.card("Class and knobs", self.label, self.model, self.panel)
        frames, steps, force, distance = self._plots
        centre = [
            style.card(
                "Unguided twin, guided clip, centre",
                self.player,
                self._made,
                self._alarms,
                note="the same noise, with the pull and without",
            ),
            style.card("What the pull did", self._numbers),
            style.card("As they form", self.strip, note="one frame of the clean clip that the model predicts after a step"),
            style.card("Frame by frame", self._frames),
        ]
        right = [
            style.card("The decay: how hard each frame is pulled", frames, note="w_f, and how far the frame went in the end"),
            style.card("The weight: how hard each step is pulled", steps, note="lambda s_t of each step; crosses: no pull"),
            style.card("Force per step and frame", force, note="size of the change that the pull made to the clean clip"),
            style.card("Distance to the centre", distance, note="of the clean clip that is predicted after each step"),
            style.card("The centres of the class", self._centres, note="k-means of real clips' latents, the middle frame of each"),
        ]
        note = "A clip is pulled to the centre of a cluster of real clips. Turn lambda or the decay: its unguided twin has the same noise."
        head = style.title("Guiding video diffusion", note, margin=(0, 0, 12, 0))
        page = style.page(head, top, left=[left], centre=centre, right=right)
        page.append(self.desk)
        return page
