"""The four knobs in the real JupyterLab, as `vidistill lab` opens it: the callback runs in the kernel, clip and plot change."""

import pytest
from servers import handle, run_all

pytestmark = pytest.mark.ui

PATIENCE = 180_000  # ms, on a busy machine; a kernel and a page take seconds


def plotted(page, number):
    """Return what a plot shows."""
    return page.locator(".js-plotly-plot").nth(number).evaluate("plot => JSON.stringify(plot.data)")


def turned(page, turn, plot):
    """Turn a knob; return when the run is over and clip and plot are others."""
    video = page.locator("video").first
    source, before = video.get_attribute("src"), plotted(page, plot)
    turn()
    page.wait_for_function("([film, source]) => film.isConnected ? film.src !== source : true", arg=[video.element_handle(), source])
    page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
    assert page.locator("video").first.get_attribute("src") != source
    assert plotted(page, plot) != before


def opened(page, url):
    """Run a notebook; return when its film is there."""
    run_all(page, url, PATIENCE)
    page.locator("video").first.wait_for(timeout=PATIENCE)


def test_the_four_knobs(page, started, tiny_notebook, tmp_path):
    for name in ("gvd", "videoguide", "latent_vdd"):
        tiny_notebook(name)
    url = started.lab(tmp_path)

    opened(page, url("gvd.ipynb"))
    turned(page, lambda: handle(page, "strength").press("PageUp"), 1)
    turned(page, lambda: page.get_by_role("combobox", name="decay").select_option("none"), 0)

    opened(page, url("videoguide.ipynb"))
    turned(page, lambda: handle(page, "interpolation beta").press("Home"), 1)

    opened(page, url("latent_vdd.ipynb"))
    turned(page, lambda: handle(page, "rank ratio").press("Home"), 1)
