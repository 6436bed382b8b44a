"""What a page shows, to be taken away: the command and the notebook's cell that make it again, and the hash that proves it."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import panel as pn
import param
from panel.custom import JSComponent

from vidistill.errors import InputError
from vidistill.lab import explore
from vidistill.widgets import style

if TYPE_CHECKING:
    from torch import Tensor

SHORT = 12  # digits of the hash that are shown; all of them are its title

LOOKS = """
.head { display: flex; align-items: center; gap: 10px; margin-bottom: 4px; }
label { font-weight: 600; font-size: 12.5px; }
textarea { width: 100%; box-sizing: border-box; resize: vertical; font: 12px/1.45 monospace; padding: 6px 8px; }
textarea:focus-visible { outline-width: 3px; outline-style: solid; outline-offset: 1px; }
"""

COPY = """
export function render({ model }) {
  const make = (name, more) => Object.assign(document.createElement(name), more);
  const area = make("textarea", { id: "words", readOnly: true, rows: model.rows, value: model.words, className: "bk-input" });
  const label = make("label", { htmlFor: "words", textContent: model.what });
  const button = make("button", { type: "button", className: "bk-btn bk-btn-default", textContent: "Copy" });
  button.setAttribute("aria-label", `Copy: ${model.what}`);
  const told = make("span", {});
  told.setAttribute("role", "status");
  area.spellcheck = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(area.value);
      told.textContent = "copied";
    } catch (refused) {  // the page is not served from this machine, or the browser forbids it
      area.focus();
      area.select();
      told.textContent = document.execCommand("copy") ? "copied" : "selected: copy it with Ctrl+C";
    }
  });
  model.on("words", () => {
    area.value = model.words;
    told.textContent = "";
  });
  const head = make("div", { className: "head" });
  head.append(label, button, told);
  const box = make("div", {});
  box.append(head, area);
  return box;
}
"""


class CopyBox(JSComponent):
    """Words that can be read, selected and copied, but not changed."""

    what = param.String(default="", doc="what they are, its label")
    words = param.String(default="", doc="the words")
    rows = param.Integer(default=3, doc="lines that are seen at once")

    _esm = COPY


class Copies(pn.viewable.Viewer):
    """The command, the cell and the record of what a page shows; made when the card is open, so that a closed one costs nothing.

    Args:
        page: its name, the stem of its notebook in ``notebooks/explore``.
    """

    def __init__(self, page: str, **params: Any) -> None:
        super().__init__(**params)
        self._page = page
        self._shown: tuple[Mapping[str, Any], Mapping[str, Tensor]] | None = None
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (8, 0, 0, 0), "stylesheets": [style.CONTROL, LOOKS]}
        self._told = style.text("Nothing is shown yet.")
        self.command = CopyBox(what="command that makes it again, without a screen", rows=3, visible=False, **wide)
        self.cell = CopyBox(what="parameters cell of the notebook, for papermill too", rows=10, visible=False, **wide)
        fold = {"title": "Copy as command", "collapsed": True, "stylesheets": [style.EXPANDER], "sizing_mode": "stretch_width", "margin": 0}
        self.card = pn.Card(self._told, self.command, self.cell, **fold)
        self.card.param.watch(self._opened, "collapsed")

    def fill(self, settings: Mapping[str, Any], clips: Mapping[str, Tensor]) -> None:
        """Take what the page shows now.

        Args:
            settings: what was asked for, under the names of the notebook's parameters.
            clips: all clips that came of it: name -> uint8 ``[3, T, H, W]``.
        """
        self._shown = settings, clips
        if not self.card.collapsed:
            self._draw()

    async def _opened(self, event: Any) -> None:
        if not event.new:
            with suppress(InputError):  # which the card then says
                await asyncio.to_thread(explore.declared, self._page)  # reads the notebook once, which takes a second
            self._draw()

    def _draw(self) -> None:
        if self._shown is None:
            return
        try:
            told = explore.record(self._page, *self._shown)
            words = explore.command(self._page, self._shown[0]), explore.cell(self._page, self._shown[0])
        except InputError as error:
            self._told.object, words = style.alert(str(error)), ("", "")
        else:
            clips, short = html.escape(", ".join(told["clips"])), told["hash"][:SHORT]
            record = f'<b>record <code title="{told["hash"]}">{short}</code></b>, of what was asked for and of every pixel of: {clips}.'
            self._told.object = f'<div role="status">{record} The command prints the same hash on this machine.</div>'
        for box, text in zip((self.command, self.cell), words, strict=True):
            box.param.update(words=text, visible=bool(text))

    def __panel__(self) -> pn.viewable.Viewable:
        return self.card
