"""The look in a real browser: names for screen readers, readings that are pressed, and colours that follow light, dark and JupyterLab."""

import pytest

pytestmark = pytest.mark.ui

PAGE = r"""
import panel as pn

from vidistill.knobs import Knob, Knobs
from vidistill.widgets import style
from vidistill.widgets.knob_panel import KnobPanel

KNOBS = Knobs(
    "toy",
    Knob("beta", 0.5, "weight", low=0, high=1, step=0.05, symbol="beta", equation=r"\hat x_0 \leftarrow \beta \hat x_0"),
    Knob("flips", False, "mirror clips"),
)
PRESETS = {"paper": {"about": "as printed", "beta": 0.25}, "ours": {"about": "", "beta": 0.75}}

pn.extension("plotly")
plot = style.plot()
line = style.line("a", [0, 1], [0, 1], style.BLUE, "circle", "solid", "")
note = style.note(f"<span style='color:{style.MUTED}'>muted</span>")
plot.object = style.figure("figure", "words", 120, [line], xaxis=style.axis("x"), annotations=[note])
knobs, figure = style.card("Knobs", KnobPanel(KNOBS, presets=PRESETS)), style.card("Figure", plot)
style.page(style.title("A page", "a note"), left=[knobs], centre=[figure], right=[style.text("")]).servable()
"""
COLOUR, FILL = ("node => getComputedStyle(node).color", "node => getComputedStyle(node).fill")
LAB = ":root { --jp-ui-font-color0: rgb(1, 2, 3); --jp-layout-color0: rgb(4, 5, 6); }"


@pytest.fixture(scope="module")
def look(serve, tmp_path_factory):
    """The address of a page with knobs and a figure."""
    script = tmp_path_factory.mktemp("look") / "look.py"
    script.write_text(PAGE)
    return serve(script)


def test_every_control_has_a_name_and_readings_are_buttons(page, look):
    page.goto(look)
    page.get_by_role("slider", name="beta beta").wait_for()
    page.get_by_role("checkbox", name="flips").wait_for()
    page.get_by_role("checkbox", name="keep").wait_for()
    page.get_by_role("button", name="seed, more").wait_for()
    readings = page.get_by_role("group", name="readings").get_by_role("button")
    assert readings.all_inner_texts() == ["○ paper: 0.25", "○ ours: 0.75"]
    readings.nth(1).click()
    page.get_by_role("button", name="● ours: 0.75", pressed=True).wait_for()
    page.locator("[role=slider][aria-valuetext='0.75']").wait_for()
    assert page.locator("math").count() == 1
    track = page.locator(".noUi-target")
    notch = track.evaluate("node => parseFloat(getComputedStyle(node, '::after').left) / node.clientWidth")
    assert notch == pytest.approx(0.25, abs=0.02)


def test_colours_follow_the_system_and_the_switch(page, look):
    page.emulate_media(color_scheme="dark")
    page.goto(look)
    name, tick = page.get_by_role("heading", name="A page"), page.locator(".xtick text").first
    tick.wait_for()
    heading = page.get_by_role("heading", name="Knobs")
    dark = "rgb(232, 237, 244)"
    assert (name.evaluate(COLOUR), heading.evaluate(COLOUR), tick.evaluate(FILL)) == (dark, dark, dark)
    assert (
        page.locator(".annotation-text tspan").evaluate(FILL) == "color(srgb 0.662745 0.705882 0.760784)"
    )  # muted, as a mixture is spelled
    page.get_by_label("colours").select_option("light")
    light = "rgb(23, 33, 47)"
    assert (name.evaluate(COLOUR), heading.evaluate(COLOUR), tick.evaluate(FILL)) == (light, light, light)
    page.reload()
    tick.wait_for()
    assert name.evaluate(COLOUR) == light  # the browser remembers


def test_in_jupyterlab_its_theme_decides(page, look):
    page.add_init_script(
        f"document.addEventListener('DOMContentLoaded', () => document.body.append(Object.assign("
        f"document.createElement('style'), {{textContent: '{LAB}'}})))"
    )
    page.goto(look)
    page.locator(".xtick text").first.wait_for()
    assert page.get_by_role("heading", name="A page").evaluate(COLOUR) == "rgb(1, 2, 3)"
    assert page.locator(".xtick text").first.evaluate(FILL) == "rgb(1, 2, 3)"
    assert page.get_by_role("combobox", name="preset").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(4, 5, 6)"
    assert not page.get_by_label("colours").is_visible()
