"""The readings of a knob, what the paper, its official code and we say it should be, as small buttons in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import param
from panel.custom import JSComponent

from vidistill.knobs import Value
from vidistill.widgets import style, theme

NAMES = ("paper", "official", "repo", "mgd3", "ours")
"""Presets that are readings; ``repo`` and ``mgd3`` are official code, the latter of GVD's predecessor."""

BUTTONS = """
export function render({ model }) {
  const row = document.createElement("div");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "readings");
  row.setAttribute("aria-description", `of ${model.knob}`);
  const buttons = model.words.map((words, k) => {
    const button = document.createElement("button");
    button.addEventListener("click", () => model.send_msg(k));
    row.append(button);
    return button;
  });
  const draw = () => buttons.forEach((button, k) => {
    const here = model.here === k;
    button.textContent = `${here ? "●" : "○"} ${model.words[k]}`;
    button.title = model.about[k];
    button.setAttribute("aria-pressed", here);
    button.disabled = model.idle;
  });
  model.on("here", draw);
  model.on("idle", draw);
  draw();
  return row;
}
"""
LOOKS = f"""
div {{ display: flex; flex-wrap: wrap; gap: 2px 8px; margin-left: -2px; }}
button {{ font: 600 11.5px {style.FONT}; color: {style.ACCENT}; background: none; border: none; border-radius: 4px; padding: 1px 2px;
  cursor: pointer; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
button:hover:enabled {{ text-decoration: underline; }}
button:focus-visible {{ outline: 3px solid {style.ORANGE}; outline-offset: 1px; }}
button:disabled {{ color: {theme.MUTED}; cursor: not-allowed; }}
"""


def differing(presets: Mapping[str, Mapping[str, Value]], name: str) -> dict[Value, list[str]]:
    """Return what the readings among ``presets`` make a knob, each value with the names that say it; empty where they agree."""
    found: dict[Value, list[str]] = {}
    for reading in NAMES:
        if reading in presets:
            found.setdefault(presets[reading][name], []).append(reading)
    return found if len(found) > 1 else {}


class Readings(JSComponent):
    """Buttons for the values of a knob on which its readings differ; a filled sign, and the pressed state, tell the present one.

    Args:
        knob: its name in words.
        found: of :func:`differing`.
        about: preset -> a line about it.
        choose: called with the value of a button that is pressed.
    """

    knob = param.String(doc="whose readings they are")
    words = param.List(item_type=str, doc="of each button")
    about = param.List(item_type=str, doc="of each button, when pointed at")
    here = param.Integer(default=-1, doc="the button of the present value, -1 if none")
    idle = param.Boolean(default=False, doc="whether the knob has no effect")

    _esm = BUTTONS

    def __init__(
        self, knob: str, found: Mapping[Value, Sequence[str]], about: Mapping[str, str], choose: Callable[[Value], Any], **params: Any
    ) -> None:
        self._values, self._choose = list(found), choose
        super().__init__(
            knob=knob,
            words=[f"{', '.join(names)}: {spelled(value)}" for value, names in found.items()],
            about=["; ".join(f"{name}: {about[name]}" for name in names if about.get(name)) for names in found.values()],
            stylesheets=[LOOKS],
            sizing_mode="stretch_width",
            margin=0,
            **params,
        )

    def mark(self, value: Value, idle: bool, capped: Callable[[Value], Value]) -> None:
        """Mark the present ``value``; ``capped`` is what the panel makes of a reading that the data at hand do not allow."""
        self.here = next((k for k, reading in enumerate(self._values) if capped(reading) == value), -1)
        self.idle = idle

    def _handle_msg(self, data: Any) -> None:
        self._choose(self._values[data])


def spelled(value: Value) -> str:
    """Return a value as it is read."""
    return f"{value:g}" if isinstance(value, float) else str(value) or "(empty)"
