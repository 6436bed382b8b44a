"""The keyboard: single keys for what a page does most, heard while nobody types, listed by ``?`` and silenced by a switch."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import panel as pn
import param
from panel.custom import JSComponent

from vidistill.widgets import style, theme
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.runs import Runs

Actions = Mapping[str, tuple[str, Callable[[], Any]]]
"""Key -> what it does in words, and what is called."""

HEARD = "listen to single keys"

LISTEN = """
export function render({ model, el }) {
  // In a notebook only keys pressed inside this output count, and they are kept from the notebook's own; a served page is ours alone.
  let home = el;
  while (home && !(home.classList && home.classList.contains("jp-OutputArea-output"))) home = home.parentNode || home.host;
  const typed = "input:not([type=checkbox]):not([type=radio]):not([type=button]), textarea, select, [contenteditable=true]";
  const listen = (event) => {
    const path = event.composedPath();
    if (!model.on_air || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !model.heard.includes(event.key)) return;
    if ((home && !path.includes(home)) || (path[0].matches && path[0].matches(typed))) return;
    event.preventDefault();
    event.stopPropagation();
    model.send_msg(event.key);
  };
  window.addEventListener("keydown", listen, true);
  model.on("remove", () => window.removeEventListener("keydown", listen, true));
  return document.createElement("span");
}
"""


class Ear(JSComponent):
    """Hears the keys of a document. Its name begins with a letter: a page does not know a component of any other name."""

    heard = param.List(default=[], item_type=str, doc="the keys that count")
    on_air = param.Boolean(default=True, doc="whether they are heard")

    _esm = LISTEN

    def __init__(self, press: Callable[[str], None], **params: Any) -> None:
        super().__init__(**params)
        self._press = press

    def _handle_msg(self, data: Any) -> None:
        self._press(data)


class Keys(pn.viewable.Viewer):
    """Single keys and what they do; ``?`` shows the list.

    Args:
        actions: what each key does; ``?`` is taken.
    """

    def __init__(self, actions: Actions, **params: Any) -> None:
        super().__init__(**params)
        self._actions: Actions = {**actions, "?": ("show or hide this list", self.toggle)}
        self._ear = Ear(self.press, heard=list(self._actions), width=0, height=0, margin=0)
        self.button = pn.widgets.Button(name="? Keys", margin=0, stylesheets=[style.CONTROL])
        self.switch = pn.widgets.CheckBoxGroup(options=[HEARD], value=[HEARD], margin=(6, 0), stylesheets=[style.CONTROL])
        self._list = pn.Column(style.text(self._words()), self.switch, visible=False, sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        self.button.on_click(lambda event: self.toggle())
        self.switch.param.watch(lambda event: setattr(self._ear, "on_air", bool(event.new)), "value")

    def press(self, key: str) -> None:
        """Do what a key does; another key does nothing."""
        if key in self._actions:
            self._actions[key][1]()

    def toggle(self) -> None:
        """Show or hide the list of keys."""
        self._list.visible = not self._list.visible

    def _words(self) -> str:
        key = f"border:1px solid {theme.MUTED};border-radius:4px;padding:0 6px;font-weight:700;margin-right:6px"
        rows = [f'<kbd style="{key}">{html.escape(name)}</kbd>{html.escape(what)}' for name, (what, _) in self._actions.items()]
        said = "".join(f"<span>{row}</span>" for row in rows)
        note = f'<div style="color:{theme.MUTED};font-size:12px">In a notebook: while a control of the page has the focus.</div>'
        return f'<div role="status" style="display:flex;flex-wrap:wrap;gap:8px 18px;margin-bottom:6px">{said}</div>{note}'

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(pn.Row(self.button, self._ear, margin=0), self._list, sizing_mode="stretch_width", margin=(8, 0, 0, 0))


def page_keys(bar: RunBar, panel: KnobPanel, runs: Runs) -> Actions:
    """Return the keys of a page with a run bar, knobs and runs; a greyed-out button's key does nothing, one that is not shown has none."""

    def click(button: pn.widgets.Button) -> Callable[[], None]:
        def pressed() -> None:
            if not button.disabled:
                button.clicks += 1

        return pressed

    def keep() -> None:
        panel.lock.value = not panel.lock.value

    return {
        **({"r": ("run", click(bar.run_button))} if bar.run_button.visible else {}),
        "c": ("cancel", click(bar.cancel_button)),
        "[": ("previous run", lambda: runs.history.step(-1)),
        "]": ("next run", lambda: runs.history.step(1)),
        "d": ("another seed", click(panel.dice_button)),
        "s": ("keep the seed, or let it go", keep),
        "m": ("compare in another way", runs.compare.next_mode),
    }
