"""Two hundred turns of random knobs in a row: no error, hardly more memory, and the page shows the last of them."""

import random

import pytest
from servers import handle

from vidistill.schedule import DECAYS

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine
MOVES = 200
GROWTH = 200 * 2**20  # bytes
KEYS = ("ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown")
SLIDERS = ("strength", "t high", "centres", "guidance")


def move(page, rng):
    """Turn a knob; return whether it could be turned: the decay is greyed out where nothing pulls."""
    if rng.random() > 0.2:
        handle(page, rng.choice(SLIDERS)).press(rng.choice(KEYS))
        return True
    from playwright.sync_api import Error

    try:
        page.get_by_role("combobox", name="decay").select_option(rng.choice(DECAYS), timeout=300)
    except Error:
        return False
    return True


def test_two_hundred_turns_and_the_last_one_wins(page, started, tiny_notebook, record_property):
    url, server = started.serve(tiny_notebook("gvd"))
    page.goto(url, timeout=PATIENCE)
    page.locator("video").wait_for(timeout=PATIENCE)
    rng = random.Random(0)
    moves = 0
    while moves < MOVES:
        if moves == MOVES // 5:  # models, plots and codecs are loaded by now
            before = server.resident
        moves += move(page, rng)
        page.wait_for_timeout(rng.choice((0, 20, 60, 250)))

    # The last one: the page says so in its words, its number of centres and its run bar.
    handle(page, "strength").press("Home")
    for _ in range(3):
        handle(page, "strength").press("ArrowRight")
    page.get_by_role("combobox", name="decay").select_option("none")
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    last = float(handle(page, "strength").get_attribute("aria-valuetext"))
    page.get_by_text(f"lambda {last:g}").first.wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.get_by_role("alert").filter(visible=True).count() == 0
    assert "Traceback" not in server.log.read_text()
    grown = server.resident - before
    record_property("grown, bytes", grown)
    assert grown < GROWTH
