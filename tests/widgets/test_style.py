"""What is written can be read: on a served page, light and dark, and in JupyterLab's own themes."""

import re

import plotly.graph_objects as go
import pytest

from vidistill.widgets import style, theme

LAB = {
    "light": {"--jp-ui-font-color0": "#000000", "--jp-layout-color0": "#ffffff", "--jp-layout-color2": "#eeeeee"},
    "dark": {"--jp-ui-font-color0": "#ffffff", "--jp-layout-color0": "#111111", "--jp-layout-color2": "#424242"},
}  # of @jupyterlab/theme-light-extension and theme-dark-extension
SURROUNDINGS = [("light", {}), ("dark", {}), ("light", LAB["light"]), ("dark", LAB["dark"])]
ON_CARDS = [theme.INK, theme.MUTED, style.ACCENT, style.GOOD, style.BAD]


def parts(words):
    """Split what is between the brackets of a CSS function at its commas."""
    depth, found = 0, [""]
    for sign in words:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            found.append("")
        else:
            found[-1] += sign
    return [part.strip() for part in found]


def computed(colour, scheme, variables):
    """Return what a browser makes of a colour, red, green and blue in [0, 255]."""
    if colour.startswith("#"):
        return list(bytes.fromhex(colour[1:]))
    name, words = re.fullmatch(r"([a-z-]+)\((.*)\)", colour).groups()
    given = parts(words)
    if name == "var":
        return computed(variables.get(given[0], given[1]), scheme, variables)
    if name == "light-dark":
        return computed(given[("light", "dark").index(scheme)], scheme, variables)
    assert (name, given[0]) == ("color-mix", "in srgb")
    first, percent = given[1].rsplit(" ", 1)
    share = int(percent.removesuffix("%")) / 100
    pair = computed(first, scheme, variables), computed(given[2], scheme, variables)
    return [share * a + (1 - share) * b for a, b in zip(*pair, strict=True)]


def contrast(a, b):
    """Return the contrast of two colours as WCAG 2 defines it."""

    def light(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast(*([value] * 3 for value in (0x76, 255))) == pytest.approx(4.54, abs=0.01)
    assert computed(theme.INK, "dark", {}) == list(bytes.fromhex(theme.DARK["ink"][1:]))
    assert computed(theme.INK, "dark", LAB["light"]) == [0, 0, 0]  # JupyterLab's theme decides, whatever the system prefers


@pytest.mark.parametrize(("scheme", "variables"), SURROUNDINGS)
def test_text_stands_out_wherever_it_stands(scheme, variables):
    pairs = [(text, ground) for text in ON_CARDS for ground in (theme.PAPER, theme.GROUND)] + [(theme.INK, style.ALARM)]
    for text, ground in pairs:
        found = contrast(computed(text, scheme, variables), computed(ground, scheme, variables))
        assert found >= 4.5, (text, ground, found)
    assert contrast(computed(style.BLUE, scheme, variables), [255, 255, 255]) >= 4.5  # white words on a blue button


@pytest.mark.parametrize(("scheme", "variables"), SURROUNDINGS)
def test_curves_and_edges_stand_out_from_a_card(scheme, variables):
    ground = computed(theme.PAPER, scheme, variables)
    for colour in (theme.EDGE, style.BLUE, style.VERMILLION, style.GREEN):
        assert contrast(computed(colour, scheme, variables), ground) >= 3, colour


def test_a_figure_keeps_fixed_colours_and_its_live_pane_exchanges_them():
    figure = style.figure("a", "b", 100, [], xaxis=style.axis("x"))
    assert go.Figure(figure).layout.font.color == style.INK  # plotly reads no variables of CSS
    assert figure["layout"]["paper_bgcolor"] == "#ffffff"  # a saved copy is read on white
    (rules,) = style.plot().stylesheets
    for fixed, live in ((style.INK, theme.INK), (style.MUTED, theme.MUTED), (style.LINE, theme.LINE), (style.PAPER, theme.PAPER)):
        red, green, blue = bytes.fromhex(fixed[1:])
        for what in ("fill", "stroke"):
            assert re.search(rf'{what}: rgb\({red}, {green}, {blue}\)"\], [^}}]*{what}: {re.escape(live)} !important', rules)


def test_a_page_begins_with_its_name_and_the_switch():
    words, switch = style.title("Name", "note")
    assert "<h1" in words.object
    assert isinstance(switch, theme.Switch)
    assert style.title("Name", "note", margin=(0, 0, 12, 0)).margin == (0, 0, 12, 0)


def test_a_notch_is_at_its_share_of_the_track():
    assert "left: calc(25% - 1px)" in style.notch(0.25)
