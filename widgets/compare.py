"""Two clips against each other on one clock: side by side, swiped, blinked, subtracted.

Pixels are uint8 RGB ``[3, T, H, W]``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.errors import InputError
from vidistill.lab.compare import (
    BLINK,
    CIVIDIS,
    DIFFERENCE,
    MODES,
    SCALES,
    SIDES,
    SWIPE,
    Difference,
    blinked,
    border,
    changed,
    check,
    swiped,
)
from vidistill.lab.compare import difference as subtract
from vidistill.widgets import style, theme
from vidistill.widgets.player import SCALE, Player, film, labelled, png
from vidistill.widgets.strip import film_strip

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FPS = 8
WIDTH, ALONE = 300, 400  # pixels of the page for one of several clips, and for one
RATES = (1, 2, 4)  # changes a second; six and more, three flashes of light, may harm


def swipe_film(a: Tensor, b: Tensor, split: float) -> np.ndarray:
    """Return the film of a swipe, uint8 ``[T, H, W, 3]``, its border a dark and a white line."""
    frames, column = film({"": swiped(a, b, split)}), SCALE * border(a, split)
    if 0 < column < frames.shape[2]:
        frames[:, :, column - 1], frames[:, :, column] = 0, 255
    return frames


def blink_film(a: Tensor, b: Tensor, rate: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the film of a blink with A or B written under each frame, uint8 ``[2 T, H, W, 3]``, and for each frame of the clips the two of
    them, ``[K, H, W, 3]``, that take turns while time stands still.
    """
    import numpy as np

    hold = FPS // rate
    clip, names = blinked(a, b, hold)
    frames = film({"": clip})
    turns = np.stack([np.asarray(labelled(frames[k : k + 1], [name])[0]) for k, name in enumerate(names)])
    at = {(name, k % a.shape[1]): turn for k, (name, turn) in enumerate(zip(names, turns, strict=True))}
    return turns, [np.stack([at[name, t] for name in "AB" for _ in range(hold)]) for t in range(a.shape[1])]


def key_html(found: Difference) -> str:
    """Return the colours of a difference with what they mean."""
    colours = ", ".join(f"rgb{colour}" for colour in CIVIDIS)
    most = f"{255 / found.scale:.0f}{'+' if found.most * found.scale > 255 else ''}"
    return (
        f'<div style="display:flex;align-items:center;gap:8px;font-size:11.5px;color:{theme.MUTED};margin-top:4px"><span>0</span><span '
        f'style="flex:1;height:8px;border-radius:4px;background:linear-gradient(90deg, {colours})"></span><span>{most} levels</span></div>'
    )


def columns(a: Tensor, b: Tensor, names: tuple[str, str], found: Difference) -> dict[str, Tensor]:
    """Return A, B and their difference with their names."""
    return {f"A: {names[0]}": a, f"B: {names[1]}": b, f"|A - B| x {found.scale}": found.picture}


def static_views(a: Tensor, b: Tensor, names: tuple[str, str]) -> list[Any]:
    """Return a comparison for a run without a screen, to stand under a film of both: the difference in words, and its frames as PNG."""
    from IPython.display import HTML, Image

    found = subtract(a, b)
    pair = f"A is {names[0]}, B is {names[1]}."
    return [
        HTML(f"<div>{html.escape(f'{pair} {found.told()}')}</div>{key_html(found)}"),
        Image(data=png(film_strip({f"|A - B| x {found.scale}": found.picture})), alt=f"frames of |A - B|. {pair} {found.told()}"),
    ]


class Compare(pn.viewable.Viewer):
    """Two clips of a list, A and B, on one clock, compared in one of four ways; it begins stopped.

    Args:
        note: what is said where there are not yet two clips.
    """

    def __init__(self, note: str = "Two clips are needed.", **params: Any) -> None:
        super().__init__(**params)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "stylesheets": [style.CONTROL], "margin": 0}
        narrow = wide | {"sizing_mode": None, "width": 170, "margin": (6, 0, 0, 0)}
        self._note = note
        self._clips: dict[str, Tensor] = {}
        self._settings: Mapping[str, Mapping[str, Any]] = {}
        self._offered: tuple[str | None, str | None] = (None, None)
        self._quiet = False
        self.a = pn.widgets.Select(name="clip A", options=[], **wide | {"margin": (0, 8, 0, 0)})
        self.b = pn.widgets.Select(name="clip B", options=[], **wide | {"margin": (0, 8, 0, 0)})
        self.mode = pn.widgets.Select(name="compare by", options=list(MODES), value=DIFFERENCE, **wide)
        self.split = pn.widgets.IntSlider(name="border: A left of it, B right  [%]", start=0, end=100, value=50, visible=False, **wide)
        self.rate = pn.widgets.Select(name="changes a second", options=list(RATES), value=2, visible=False, **narrow)
        options = {"what hides nothing": 0} | {str(k): k for k in SCALES}
        self.scale = pn.widgets.Select(name="difference times", options=options, **narrow)
        self.player = Player(FPS, playing=False)
        self._told, self._key = style.text(), style.text()
        self._stage = pn.Column(self.player, self.split, sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        for widget in (self.a, self.b, self.mode, self.rate, self.scale):
            widget.param.watch(self._changed, "value")
        # While time stands still the border follows the hand; a film is made anew when it is let go.
        self.split.param.watch(lambda event: None if self.player.playing else self._draw(), "value")
        self.split.param.watch(lambda event: self._draw() if self.player.playing else None, "value_throttled")
        self._draw()

    def offer(
        self,
        clips: Mapping[str, Tensor],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        a: str | None = None,
        b: str | None = None,
    ) -> None:
        """Give the clips to choose from.

        Args:
            clips: name -> uint8 ``[3, T, H, W]``.
            settings: name -> how it was made; of two that have one it is said what is not the same.
            a, b: shown where what was given last time is still chosen; a choice of the user's stays while it is in the list.
        """
        slots = zip((self.a.value, self.b.value), self._offered, (a, b), strict=True)
        one, two = (value if value in clips and value != was else new for value, was, new in slots)
        self._clips, self._settings, self._offered = dict(clips), settings or {}, (a, b)
        self.choose(one, two)

    def choose(self, a: str | None = None, b: str | None = None) -> None:
        """Show these two; None leaves one as it is where it still can be shown."""
        names = list(self._clips)
        self._quiet = True
        for widget, name in ((self.a, a), (self.b, b)):
            value = next((one for one in (name, widget.value, *names[-1:]) if one in self._clips), None)
            widget.param.update(options=names, value=value)
        self._quiet = False
        self._draw()

    def next_mode(self) -> None:
        """Compare in the next way."""
        self.mode.value = MODES[(MODES.index(self.mode.value) + 1) % len(MODES)]

    def _changed(self, event: Any) -> None:
        if not self._quiet:
            self._draw()

    def _draw(self) -> None:
        mode, names = self.mode.value, (self.a.value, self.b.value)
        self.split.visible, self.rate.visible, self.scale.visible = mode == SWIPE, mode == BLINK, mode == DIFFERENCE
        if any(name not in self._clips for name in names):
            self._stage.visible, self._key.object, self._told.object = False, "", html.escape(self._note)
            return
        a, b = (self._clips[name] for name in names)
        try:
            check(a, b)
        except InputError as error:
            self._stage.visible, self._key.object, self._told.object = False, "", style.alert(str(error))
            return
        found = subtract(a, b, self.scale.value if mode == DIFFERENCE else 0)
        self._show(mode, a, b, names, found)
        self._key.object = key_html(found) if mode == DIFFERENCE else ""
        self._told.object = f'<div role="status" style="margin-top:6px">{self._made(names)}{html.escape(found.told())}</div>'
        self._stage.visible = True

    def _show(self, mode: str, a: Tensor, b: Tensor, names: tuple[str, str], found: Difference) -> None:
        said = f"A, {names[0]}, and B, {names[1]}"
        sides = columns(a, b, names, found)
        if mode == SWIPE:
            share = int(self.split.value or 0)
            frames = swipe_film(a, b, share / 100)
            self.player.load_film(frames, list(sides)[:2], f"{said}: A left of a border at {share} % of the width, B right of it")
        elif mode == BLINK:
            film_, stops = blink_film(a, b, self.rate.value)
            self.player.load_film(film_, list(sides)[:2], f"{said}, in turn, {self.rate.value} changes a second", stops)
        else:
            shown = sides if mode == DIFFERENCE else {name: clip for name, clip in sides.items() if clip is not found.picture}
            self.player.load(shown, f"{said}, in step{'; and how they differ' if mode == DIFFERENCE else ''}. {found.told()}")
        self._stage.max_width = {SIDES: 2 * WIDTH, DIFFERENCE: 3 * WIDTH}.get(mode, ALONE)

    def _made(self, names: tuple[str, str]) -> str:
        """Return what is not the same in how the two were made."""
        if any(name not in self._settings for name in names):
            return ""
        apart = changed(*(self._settings[name] for name in names))
        words = f"From A to B: {', '.join(apart)}." if apart else "A and B were made in the same way."
        return f"<b>{html.escape(words)}</b> "

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.Row(self.a, self.b, self.mode, sizing_mode="stretch_width", margin=0),
            self.rate,
            self.scale,
            self._stage,
            self._key,
            self._told,
            sizing_mode="stretch_width",
            margin=0,
        )
