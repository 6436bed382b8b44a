"""Plots that stay as they are while the page is laid out anew.

After every layout of a page, and a changed word on a button makes one, Panel asks plotly to take the size that each plot has; plotly then
draws it again, all plots a quarter of a second on two cores, and a clip that forms has to wait for that.
"""

from __future__ import annotations

from panel.custom import JSComponent

CALM = """
const calm = () => {
  const plotly = window.Plotly;
  if (!plotly) return void setTimeout(calm, 50);
  if (plotly.calm) return;
  plotly.calm = true;
  const relayout = plotly.relayout;
  plotly.relayout = (plot, update, ...more) => {
    const now = plot._fullLayout || {};
    const same = Object.keys(update).length === 2 && update.width === now.width && update.height === now.height;
    return same ? Promise.resolve(plot) : relayout(plot, update, ...more);
  };
};
export function render() {
  calm();
  return document.createElement("span");
}
"""


class Calm(JSComponent):
    """Lets plotly pass over a size that a plot has already, in the whole document."""

    _esm = CALM
