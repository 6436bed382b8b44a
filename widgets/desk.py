"""What every page has besides its own: runs, two clips compared, forks, a grid of two knobs, the command that makes it again, single keys;
and the protocol by which they get at the page.

Clips are uint8 RGB ``[3, T, H, W]``; T is their frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import panel as pn

from vidistill.errors import InputError
from vidistill.knobs import Knobs
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.lab.until import SETTING, ends, fork
from vidistill.widgets import style
from vidistill.widgets.copies import Copies
from vidistill.widgets.grid import Grid
from vidistill.widgets.keys import Keys, page_keys
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.runs import Runs
from vidistill.widgets.timeline import Timeline

if TYPE_CHECKING:
    from torch import Tensor


class Page(Protocol):
    """A page over a session. Its settings are JSON-ready and named as the parameters of its notebook; a look is a whole result of a run.

    Attributes:
        name: stem of its notebook in ``notebooks/explore``.
        knobs: the declarations of the knobs among its settings.
        bar: runs them.
        panel: turns them.
    """

    name: str
    knobs: Knobs
    bar: RunBar
    panel: KnobPanel

    def asked(self) -> dict[str, Any]:
        """Return the settings that the page asks for now, without a fork."""

    def steps(self, settings: Mapping[str, Any], previews: bool = True) -> Iterator[Step]:
        """Return a run of such settings, of a fork where they have one; without ``previews`` nothing is shown on the way. It looks at no
        control."""

    async def run(self, *events: Any) -> None:
        """Run what the page asks for; a run under way is superseded."""

    def present(self, result: Any, settings: Mapping[str, Any]) -> None:
        """Draw a result of a run of these settings, and let the desk remember it where it is a look."""

    def recall(self, settings: Mapping[str, Any], look: Any) -> None:
        """Set every control to these settings without a run, and draw what came of them."""

    def clip(self, look: Any) -> Tensor:
        """Return the clip that counts, uint8 ``[3, T, H, W]``: one of :meth:`clips`."""

    def clips(self, look: Any) -> dict[str, Tensor]:
        """Return all clips by name."""

    def numbers(self, look: Any) -> dict[str, float | None]:
        """Return a few numbers of the clip that counts, None where there is none; ``seconds``, what it took, where that is known."""

    def forming(self, look: Any) -> tuple[Sequence[Preview], int] | None:
        """Return the previews of the clip that counts, empty while they are not made, and its steps; None where a run has no fork."""


class Desk(pn.viewable.Viewer):
    """The tools that all pages share. A page runs through :meth:`run`, gives what came of it to :meth:`remember`, calls :meth:`follow` when
    a control was turned, and sets its controls for an earlier run inside :meth:`recalled`.

    A fork is chosen on the timeline: from then on a run keeps the first steps of the run that is shown.

    Args:
        page: the page; it has its bar and its panel already.
    """

    def __init__(self, page: Page, **params: Any) -> None:
        super().__init__(**params)
        self._page = page
        self._asked: dict[str, Any] = {}
        self._shown: dict[str, Any] = {}
        self._forks = self.recalling = False
        self.runs = Runs(lambda entry: page.recall(entry.settings, entry.record))
        self.keys = Keys(page_keys(page.bar, page.panel, self.runs))
        self.timeline = Timeline(lambda step: None)  # nothing differs before a knob is turned
        self.grid = Grid(page)
        self.copies = Copies(page.name)

    def asked(self) -> dict[str, Any]:
        """Return the settings of the next run: what the page asks for and, where a fork was chosen, the knobs of the steps before it."""
        now = self._page.asked()
        if not self.timeline.kept:
            return now
        try:
            line = fork(self._page.knobs, self._shown, now, self.timeline.kept)
        except InputError as error:
            self.timeline.leave(str(error))
            return now
        return now | {SETTING: line} if line else now

    async def run(self) -> None:
        """Run what is asked for and show every result; a run under way is superseded."""
        page, settings = self._page, self.asked()
        self._asked = settings
        await page.bar.run(lambda: page.steps(settings), lambda result: page.present(result, settings))

    async def follow(self) -> None:
        """Run if the page asks for something else than last time; the events of a recall, which come late, ask for nothing new."""
        if not self.recalling and self.asked() != self._asked:
            await self._page.run()

    def remember(self, look: Any, settings: Mapping[str, Any]) -> None:
        """Take note of what the page shows now. Settings that are known keep their run, which gets this look: it may be a fuller one.

        Args:
            look: a whole result.
            settings: what was asked for, and what the page's controls come to when they follow the look.
        """
        self._asked = self._shown = dict(settings)
        clip, clips = self._page.clip(look), self._page.clips(look)
        others = {name: one for name, one in clips.items() if one is not clip}
        self.runs.add(settings, clip, self._page.numbers(look).get("seconds"), look, others)
        self.copies.fill(settings, clips)
        if (formed := self._page.forming(look)) is not None:
            self._forks = True
            self.timeline.fill(self.runs.shown, *formed, settings.get(SETTING, ""))

    @contextmanager
    def recalled(self, settings: Mapping[str, Any], look: Any) -> Iterator[None]:
        """Inside, a page sets its controls to earlier settings and draws their look: no control starts a run, and one under way ends."""
        self._page.bar.cancel()
        self._asked, self.recalling = dict(settings), True
        try:
            yield
        finally:
            self.recalling = False
        self.remember(look, settings)
        self.timeline.keep(max(ends(settings.get(SETTING, "")), default=0))

    def __panel__(self) -> pn.viewable.Viewable:
        fold: dict[str, Any] = {"collapsed": True, "stylesheets": [style.EXPANDER], "sizing_mode": "stretch_width", "margin": 0}
        forks = "the run that is shown, step by step; a fork keeps its first steps and goes on with other knobs"
        return pn.Column(
            *([style.card("Fork", self.timeline, note=forks)] if self._forks else []),
            self.runs,
            style.card("", pn.Card(self.grid, title="Grid of two knobs", **fold)),
            style.card("", self.copies),
            sizing_mode="stretch_width",
            margin=0,
        )
