"""The last runs of a page, in a strip: what each changed, its middle frame, a way back to it, and two of them for a comparison.

Clips are uint8 RGB ``[3, T, H, W]``; T is their frames.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.lab.compare import changed
from vidistill.widgets import style, theme
from vidistill.widgets.strip import uri

if TYPE_CHECKING:
    from torch import Tensor

MOST = 24
SLOTS = ("A", "B")

SCROLL = """
:host { overflow-x: auto; padding-bottom: 6px; }
"""
SMALL = ".bk-btn { padding: 4px 0; font-size: 12px; }"
ENTRY = f"""
:host {{ border: 1px solid {theme.LINE}; border-radius: 8px; padding: 6px; box-sizing: border-box; background: {theme.PAPER}; }}
:host(.shown) {{ border: 2px solid {style.BLUE}; padding: 5px; }}
"""


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        number: of the run, from 1.
        settings: what was asked for.
        clip: what came of it.
        seconds: what it took, None where nobody measured it.
        record: whatever the page needs to show it again.
        before: the run that was shown before it, and its settings, which the words are told against; None for the first.
    """

    number: int
    settings: Mapping[str, Any]
    clip: Tensor
    seconds: float | None
    record: Any
    before: tuple[int, Mapping[str, Any]] | None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"run {self.number}"

    @property
    def words(self) -> str:
        """What it changed."""
        if self.before is None:
            return "the first"
        number, settings = self.before
        since = "" if number == self.number - 1 else f"from run {number}: "
        return since + ", ".join(changed(settings, self.settings))


class History(pn.viewable.Viewer):
    """A strip of runs, the newest first. The same settings make the same clip, so they are one run.

    Args:
        recall: called with the entry that is to be shown again.
        pick: called with ``"A"`` or ``"B"`` and the entry that is to be it.
        most: runs that are kept.
    """

    def __init__(self, recall: Callable[[Entry], Any], pick: Callable[[str, Entry], Any], most: int = MOST, **params: Any) -> None:
        super().__init__(**params)
        self._recall, self._pick, self._most = recall, pick, most
        self.entries: list[Entry] = []
        self.shown: int | None = None
        self._count = 0
        self._cards: dict[int, _Card] = {}
        self._row = pn.Row(sizing_mode="stretch_width", margin=0, stylesheets=[SCROLL])

    def add(self, settings: Mapping[str, Any], clip: Tensor, seconds: float | None, record: Any = None) -> Entry:
        """Remember a run, or the newer record of one that is known, and mark it as the one that is shown.

        Args:
            settings: what was asked for: name -> value.
            clip: uint8 ``[3, T, H, W]``.
            seconds: what it took, None where nobody measured it.
            record: whatever the page needs to show it again.
        """
        for k, known in enumerate(self.entries):
            if known.settings == settings:
                self.entries[k] = replace(known, clip=clip, record=record)
                self.mark(self.entries[k])
                return self.entries[k]
        before = next(((entry.number, entry.settings) for entry in self.entries if entry.number == self.shown), None)
        self._count += 1
        entry = Entry(self._count, dict(settings), clip, seconds, record, before)
        self.entries = [*self.entries, entry][-self._most :]
        self._cards = {one.number: self._cards.get(one.number) or _Card(one, self._press) for one in self.entries}
        self._row.objects = [card.column for card in reversed(self._cards.values())]
        self.mark(entry)
        return entry

    def mark(self, entry: Entry) -> None:
        """Mark the run that is shown."""
        self.shown = entry.number
        for number, card in self._cards.items():
            card.mark(number == self.shown)

    def mark_pair(self, a: str | None, b: str | None) -> None:
        """Mark the runs that are compared, by their names."""
        for card in self._cards.values():
            card.mark_pair(a, b)

    def step(self, by: int) -> None:
        """Recall the run that is ``by`` places after the one that is shown; at an end nothing happens."""
        numbers = [entry.number for entry in self.entries]
        at = numbers.index(self.shown) + by if self.shown in numbers else -1
        if 0 <= at < len(numbers):
            self._press(numbers[at], None)

    def _press(self, number: int, slot: str | None) -> None:
        entry = next(one for one in self.entries if one.number == number)
        if slot is None:
            self.mark(entry)
            self._recall(entry)
        else:
            self._pick(slot, entry)

    def __panel__(self) -> pn.viewable.Viewable:
        return self._row


class _Card:
    """One run of the strip: its middle frame, its words, and three buttons whose own words say which run they are of."""

    def __init__(self, entry: Entry, press: Callable[[int, str | None], None]) -> None:
        self._entry = entry
        small: dict[str, Any] = {"stylesheets": [style.CONTROL, SMALL], "margin": (4, 0, 0, 0)}
        self.show = pn.widgets.Button(name="", width=128, **small)
        self.slots = {slot: pn.widgets.Button(name="", width=62, **small) for slot in SLOTS}
        self.show.on_click(lambda event: press(entry.number, None))
        for slot, button in self.slots.items():
            button.on_click(self._presser(press, slot))
        words, picture = html.escape(entry.words), entry.clip[:, entry.clip.shape[1] // 2]
        lines = "display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden;height:4.2em"
        image = f'<img src="{uri(picture)}" alt="middle frame of {entry.name}: {words}" style="width:100%;display:block;border-radius:4px">'
        took = "" if entry.seconds is None else f", {entry.seconds:.2f} s"
        self.pane = style.text(
            f'<figure style="margin:0">{image}<figcaption style="font-size:11.5px"><b>{entry.name}</b>{took}'
            f'<div title="{words}" style="{lines};color:{theme.MUTED}">{words}</div></figcaption></figure>'
        )
        pair = pn.Row(*self.slots.values(), margin=0, styles={"gap": "4px"})
        self.column = pn.Column(self.pane, self.show, pair, width=142, margin=(0, 8, 0, 0), stylesheets=[ENTRY])
        self.mark(False)
        self.mark_pair(None, None)

    def _presser(self, press: Callable[[int, str | None], None], slot: str) -> Callable[[Any], None]:
        return lambda event: press(self._entry.number, slot)

    def mark(self, shown: bool) -> None:
        """Say whether it is shown."""
        self.show.name = f"✓ run {self._entry.number} shown" if shown else f"Show run {self._entry.number}"
        self.column.css_classes = ["shown"] if shown else []

    def mark_pair(self, a: str | None, b: str | None) -> None:
        """Say whether it is A or B."""
        for (slot, button), name in zip(self.slots.items(), (a, b), strict=True):
            mine = name == self._entry.name
            button.name, button.button_type = f"{'✓ ' if mine else ''}{self._entry.number} as {slot}", "primary" if mine else "default"
