"""A page's runs: the strip of them, and two of them compared; a page adds what it made and says how a run is recalled.

Clips are uint8 RGB ``[3, T, H, W]``; T is their frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.widgets import style
from vidistill.widgets.compare import Compare
from vidistill.widgets.history import MOST, Entry, History

if TYPE_CHECKING:
    from torch import Tensor


class Runs(pn.viewable.Viewer):
    """The last runs of a page over a comparison: of what was shown before with what is shown now, until others are picked.

    Args:
        recall: called with the run that is to be shown again.
        most: runs that are kept.
    """

    def __init__(self, recall: Callable[[Entry], Any], most: int = MOST, **params: Any) -> None:
        super().__init__(**params)
        self.history = History(recall, self._pick, most)
        self.compare = Compare()
        self._pair = ("", "")
        for slot in (self.compare.a, self.compare.b):
            slot.param.watch(lambda event: self.history.mark_pair(self.compare.a.value, self.compare.b.value), "value")

    @property
    def shown(self) -> str:
        """The run that is shown, "" where there is none."""
        return next((entry.name for entry in self.history.entries if entry.number == self.history.shown), "")

    def add(
        self,
        settings: Mapping[str, Any],
        clip: Tensor,
        seconds: float | None,
        record: Any = None,
        others: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Remember a run, and compare it with the one that was shown before.

        Args:
            settings, clip, seconds, record: see :meth:`History.add`.
            others: name -> clip of the same run that can be compared, too, uint8 ``[3, T, H, W]``; the first run is, with the first.
        """
        shown = self.shown
        now = self.history.add(settings, clip, seconds, record)
        entries = self.history.entries
        beside = {f"{name} of {now.name}": other for name, other in (others or {}).items()}
        if now.name != shown:
            self._pair = shown or next(iter(beside), now.name), now.name
        elif set(beside) <= set(self.compare.a.options):  # the same again
            return
        clips = {**beside, **{entry.name: entry.clip for entry in entries}}
        self.compare.offer(clips, {entry.name: entry.settings for entry in entries}, *self._pair)
        self.history.mark_pair(self.compare.a.value, self.compare.b.value)

    def _pick(self, slot: str, entry: Entry) -> None:
        (self.compare.a if slot == "A" else self.compare.b).value = entry.name

    def __panel__(self) -> pn.viewable.Viewable:
        runs = "newest first; show one again, and its knobs come with it; the same settings make the same clip"
        two = "on one clock: what was shown before and what is shown now, until you pick A or B yourself"
        return pn.Column(
            style.card("Runs", self.history, note=runs),
            style.card("Compare two clips", self.compare, note=two),
            sizing_mode="stretch_width",
            margin=0,
        )
