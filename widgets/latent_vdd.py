"""The pane of glass over Latent Video Dataset Distillation: knobs left, clips in the middle, the reasons right."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn
from torch import Tensor

from vidistill.knobs import Knobs
from vidistill.lab.session import Look, Session
from vidistill.lab.steps import Step, stream
from vidistill.widgets import style, theme
from vidistill.widgets.budget import budget_figure
from vidistill.widgets.desk import Desk
from vidistill.widgets.gallery import contact_sheet, gallery_figure, rows_by_class
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.lamp import lamp_html
from vidistill.widgets.player import Player, png
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.spectrum import rank_html, spectrum_figure
from vidistill.widgets.tradeoff import tradeoff_figure

FOLDED = ("basis", "reading", "budget_kib", "codec_part")
SHOWN = (
    *("rank_ratio", "core_dtype", "decomposition"),
    *("selector", "kernel", "bandwidth", "instances"),
    "codec_dtype",
    *FOLDED,
)  # all that a session's answer depends on
USES = {
    "kernel": lambda k: k["selector"] in ("dpp", "greedy-map"),
    "bandwidth": lambda k: k["selector"] in ("dpp", "greedy-map") and k["kernel"] not in ("official", "cosine"),
    "instances": lambda k: k["selector"] != "all",
}
HERE = ("", "")  # folder and layout of the built-in world
WORLD, FOLDER = "Motion World (built in)", "a folder of videos"
LAYOUTS = ("ucf101", "hmdb51", "kinetics", "ssv2", "folder")
COLUMNS = 12  # pictures in a row of the contact sheet


def numbers_html(look: Look) -> str:
    """Return the four numbers of a setting, each with what it is measured against."""
    tiles = (
        ("psnr", f"{look.psnr['distilled']:.1f} dB", "PSNR of this clip", f"codec alone {look.psnr['codec alone']:.1f}"),
        ("error", f"{100 * look.error:.1f} %", "error of the latents", f"all {len(look.chosen)} selected clips"),
        ("bytes", style.size(look.bytes["total"]), "stored, one file", f"{look.bytes['total']:,} bytes"),
        ("clip-bytes", style.size((look.bytes["core"] + look.bytes["factors"]) / len(look.chosen)), "for each clip", "cores and factors"),
    )
    cells = "".join(style.tile(*tile) for tile in tiles)
    return f'<div role="status" aria-live="polite" style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>'


def alt_text(look: Look) -> str:
    """Say in words what the player shows."""
    names = ", ".join(look.clips)
    return f"One clip, playing in step {len(look.clips)} times: {names}; the distilled one at {look.psnr['distilled']:.1f} dB PSNR"


def static_views(session: Session, look: Look) -> list[Any]:
    """Return the views of a look for a run without a screen: film and contact sheet as PNG, plots as figures, verdicts as HTML."""
    from IPython.display import HTML, Image

    latents, player = session.latents, Player()
    player.load(look.clips, alt_text(look))
    grid = rows_by_class(latents.labels.tolist(), COLUMNS)
    sheet = contact_sheet(session.thumbnails, grid, look.chosen.tolist(), look.clip)
    figures = (
        spectrum_figure(look.energy, look.ranks),
        tradeoff_figure(look.curves, look.stored),
        budget_figure(look.bytes, look.pixels),
    )
    return [
        Image(data=player.apng(), alt=alt_text(look)),
        HTML(numbers_html(look)),
        Image(data=png(sheet), alt="every clip by class; the selected ones are framed"),
        HTML(lamp_html(look.kernel, look.values["selector"], look.values["instances"])),
        *(style.Static(figure) for figure in figures),
    ]


def _title(name: str, caption: str) -> str:
    return name if caption == name else f"{name}: {caption}"


def _place(settings: Mapping[str, Any]) -> tuple[str, str]:
    return settings.get("folder", ""), settings.get("layout", "")


class LatentVddBench(pn.viewable.Viewer):
    """Knobs, clips and reasons for one session; every turn of a knob shows the clip that comes back from the file.

    Args:
        session: the data set to begin with.
        knobs: the paper's declarations.
        presets: name -> values.
        start: knob values of the first state.
        seed: seed of the selection.
    """

    def __init__(
        self,
        session: Session,
        knobs: Knobs,
        presets: Mapping[str, Mapping[str, Any]],
        start: Mapping[str, Any],
        seed: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(name="latent_vdd", **params)
        css = [style.CONTROL]
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 6, 0), "stylesheets": css}
        self._declared, self.knobs = knobs, Knobs(knobs.paper, *(knobs[name] for name in SHOWN))
        self._sessions = {HERE: session}
        self._kept = style.text(margin=(0, 0, 6, 0))
        beside = {"rank_ratio": self._kept}
        self.panel = KnobPanel(knobs, show=SHOWN, presets=presets, start=start, uses=USES, folded=FOLDED, seed=seed, beside=beside)
        self.bar = RunBar(label="")
        self.player = Player()
        self.picked = pn.widgets.Select(name="selected clip", **{**wide, "margin": (0, 0, 8, 0)})
        self.source = pn.widgets.Select(name="data set", options=[WORLD, FOLDER], **wide)
        self.path = pn.widgets.TextInput(name="folder", placeholder="path to the videos", visible=False, **wide)
        self.layout = pn.widgets.Select(name="layout", options=list(LAYOUTS), visible=False, **wide)
        self.open_button = pn.widgets.Button(name="Open the folder", button_type="primary", visible=False, **wide)
        self.save_button = pn.widgets.FileDownload(
            callback=self._file, filename="distilled.safetensors", label="Save the distilled set", button_type="default", **wide
        )
        self._numbers, self._lamp, self._data = style.text(), style.text(margin=(8, 0, 0, 0)), style.text(margin=(0, 0, 6, 0))
        self._gallery, self._spectrum, self._budget, self._tradeoff = (style.plot() for _ in range(4))
        self.desk = Desk(self)
        self._opened(HERE, session)
        self.panel.param.watch(self._turned, ["values", "seed"])
        self.picked.param.watch(self._turned, "value")
        self._gallery.param.watch(self._clicked, "click_data")
        self.source.param.watch(self._source, "value")
        self.open_button.on_click(self._open)

    def _opened(self, place: tuple[str, str], session: Session) -> None:
        """Take a data set, and show its first state."""
        self._sessions[place] = session
        self._take(place)
        look = session.look(self.panel.values, seed=self.panel.seed)
        self.draw(look)
        self.desk.remember(look, self.asked())

    def _take(self, place: tuple[str, str]) -> None:
        """Turn to a data set that is open, by its folder and layout, and limit the knobs to what it has."""
        self._place, self._session = place, self._sessions[place]
        session, latents = self._session, self._session.latents
        self.panel.cap("instances", session.most, f"here at most {session.most}")
        self._data.object = (
            f'<span style="color:{theme.MUTED};font-size:12px">{len(latents)} clips, {len(latents.classes)} classes, '
            f"{latents.frames} frames of {session.clips.protocol.size} px</span>"
        )
        self._look: Look | None = None

    def draw(self, look: Look) -> None:
        """Show everything a setting gives, drawing only what has changed since the last look."""
        before, self._look = self._look, look
        same_choice = before is not None and before.chosen is look.chosen
        curves = look.curves or (before.curves if before is not None and same_choice else {})
        self._tradeoff.object = tradeoff_figure(curves, look.stored)
        if before is not None and before.clips is look.clips:
            return  # the same setting once more, now with its curves
        self.player.load(look.clips, alt_text(look))
        self._numbers.object, self._kept.object = numbers_html(look), rank_html(look.energy, look.ranks, look.bytes["total"], look.pixels)
        self._spectrum.object = spectrum_figure(look.energy, look.ranks)
        self._budget.object = budget_figure(look.bytes, look.pixels)
        self._lamp.object = lamp_html(look.kernel, look.values["selector"], look.values["instances"])
        if before is None or not same_choice or before.clip != look.clip:
            self._draw_choice(look)

    def _draw_choice(self, look: Look) -> None:
        latents, captions = self._session.latents, self._session.captions
        options = {_title(latents.names[i], captions[i]): i for i in sorted(look.chosen.tolist())}
        self.picked.param.update(options=options, value=look.clip)
        labels = latents.labels.tolist()
        grid = rows_by_class(labels, COLUMNS)
        sheet = contact_sheet(self._session.thumbnails, grid, look.chosen.tolist(), look.clip)
        self._gallery.object = gallery_figure(sheet, grid, captions, latents.classes, labels)
        self._gallery.height = self._gallery.object["layout"]["height"]

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now; ``folder`` and ``layout`` only where it is not the built-in world."""
        values = {name: self.panel.values[name] for name in SHOWN} | {"seed": self.panel.seed, "clip": self.picked.value}
        folder, layout = self._place
        return values | ({"folder": folder, "layout": layout} if folder else {})

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings in a data set that is open; without ``previews`` it ends before the curves."""
        values = self._declared.resolve({name: settings[name] for name in SHOWN})
        for step in self._sessions[_place(settings)].steps(values, clip=settings["clip"], seed=settings["seed"]):
            yield step
            if step.result is not None and not previews:
                return

    async def run(self, *events: Any) -> None:
        """Show what the page asks for; a run under way is superseded."""
        await self.desk.run()

    def present(self, result: Look, settings: Mapping[str, Any]) -> None:
        """Draw a look; the list of clips turns to the one that came."""
        self.draw(result)
        self.desk.remember(result, {**settings, "clip": result.clip})

    def recall(self, settings: Mapping[str, Any], look: Look) -> None:
        """Set the page as it was for a look, and draw it; nothing is computed again."""
        with self.desk.recalled(settings, look):
            place = _place(settings)
            self.source.value = WORLD if place == HERE else FOLDER
            if place != HERE:
                self.path.value, self.layout.value = place
            if place != self._place:
                self._take(place)
            self.panel.set({name: settings[name] for name in SHOWN})
            self.panel.seed = settings["seed"]
            self.draw(look)

    def clip(self, look: Look) -> Tensor:
        """Return the clip that comes back from the file."""
        return look.clips["distilled"]

    def clips(self, look: Look) -> dict[str, Tensor]:
        """Return all clips by name."""
        return look.clips

    def numbers(self, look: Look) -> dict[str, float | None]:
        """Return what is measured of the clip that comes back, and of the file."""
        return {"PSNR": look.psnr["distilled"], "error": look.error, "bytes": look.bytes["total"]}

    def forming(self, look: Look) -> None:
        """Return None: nothing is sampled."""

    async def _turned(self, *events: Any) -> None:
        await self.desk.follow()

    async def _clicked(self, event: Any) -> None:
        points = (event.new or {}).get("points") or [{}]
        clip = points[0].get("customdata")
        if clip is not None and self._look is not None and clip in self._look.chosen.tolist():
            self.picked.value = clip

    async def _source(self, event: Any) -> None:
        folder = event.new == FOLDER
        self.path.visible = self.layout.visible = self.open_button.visible = folder
        if not folder and self._place != HERE:
            self._opened(HERE, self._sessions[HERE])

    async def _open(self, event: Any) -> None:
        place = self.path.value or ".", self.layout.value
        show = partial(self._opened, place)
        await self.bar.run(lambda: stream(lambda progress: Session.folder(*place, progress=progress)), show)

    def _file(self) -> io.BytesIO:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "distilled.safetensors"
            self._session.save(path, self.panel.values, self.panel.seed)
            return io.BytesIO(path.read_bytes())

    def __panel__(self) -> pn.viewable.Viewable:
        data = [self.source, self.path, self.layout, self.open_button, self._data]
        left = style.card("Knobs", *data, self.panel)
        centre = [
            style.card("The clip that comes back", self.picked, self.player, pn.Spacer(height=10), self._numbers),
            style.card(
                "What was kept",
                self._gallery,
                self._lamp,
                note="framed: selected · orange: on the player · faded: left out · click a framed one to see it",
            ),
        ]
        right = [
            style.card(
                "Why: share of the energy in each mode",
                self._spectrum,
                note="filled: kept · hollow, in the grey zone: cut off by the rank ratio",
            ),
            style.card("Error against bytes", self._tradeoff, note="the selected clips at rank ratios 0.1, 0.25, 0.5, 0.75 and 1"),
            style.card("Where the bytes go", self._budget, self.save_button),
        ]
        title = style.title(
            "Latent Video Dataset Distillation",
            "A few clips are selected, their latents squeezed into one file, and decoded again. Turn a knob and see what survives.",
        )
        head = pn.Row(title, pn.Column(self.bar, self.desk.keys, width=400, margin=0), sizing_mode="stretch_width", margin=(0, 0, 12, 0))
        page = style.page(head, left=[left], centre=centre, right=right)
        page.append(self.desk)
        return page
