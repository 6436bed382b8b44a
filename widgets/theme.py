"""Colours that follow the surroundings: JupyterLab's theme where there is one, else light or dark as the system or a switch says.

They are values of CSS, for stylesheets, HTML and SVG; what Python draws, pictures and figures, has the fixed ones of ``style``.
"""

from __future__ import annotations

from panel.custom import JSComponent

LIGHT = {"ink": "#17212f", "muted": "#566273", "line": "#dde3ea", "paper": "#ffffff", "ground": "#f3f5f8"}
DARK = {"ink": "#e8edf4", "muted": "#a9b4c2", "line": "#374253", "paper": "#161d27", "ground": "#0e131a"}
"""The same names on a served page: text, lesser text, thin lines, cards, and the page under them."""


def _pair(name: str) -> str:
    return f"light-dark({LIGHT[name]}, {DARK[name]})"


def mixed(colour: str, percent: int, other: str) -> str:
    """Return ``percent`` of one colour of CSS and the rest of another."""
    return f"color-mix(in srgb, {colour} {percent}%, {other})"


INK = f"var(--jp-ui-font-color0, {_pair('ink')})"
PAPER = f"var(--jp-layout-color0, {_pair('paper')})"
LINE = f"var(--jp-border-color2, {_pair('line')})"
MUTED = mixed(f"var(--jp-ui-font-color0, {_pair('muted')})", 64, f"var(--jp-layout-color0, {_pair('muted')})")
GROUND = mixed(f"var(--jp-layout-color0, {_pair('ground')})", 60, f"var(--jp-layout-color2, {_pair('ground')})")
EDGE = mixed(INK, 52, PAPER)
"""Of controls."""
SWITCH = """
const SCHEMES = { "as the system": "light dark", light: "light", dark: "dark" };
const KEPT = "vidistill colours";
export function render() {
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append("colours ", select);
  select.append(...Object.keys(SCHEMES).map((name) => new Option(name)));
  const kept = localStorage.getItem(KEPT);
  if (kept in SCHEMES) select.value = kept;
  const follow = () => { document.documentElement.style.colorScheme = SCHEMES[select.value]; };
  select.addEventListener("change", () => { localStorage.setItem(KEPT, select.value); follow(); });
  if (getComputedStyle(document.body).getPropertyValue("--jp-layout-color0")) label.hidden = true;  // the notebook's theme decides
  else follow();
  return label;
}
"""


class Switch(JSComponent):
    """Light, dark, or as the system: of the whole page, remembered by the browser. In JupyterLab, which has themes, it is not shown."""

    _esm = SWITCH
