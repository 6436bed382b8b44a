"""Two people on one server: neither sees what the other turns, nor stops what the other runs."""

import re

import pytest
from servers import handle

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine


def test_two_people_do_not_meet(browser, serve, tiny_notebook):
    url = serve(tiny_notebook("gvd"))
    one, two = (browser.new_context(viewport={"width": 1440, "height": 900}).new_page() for _ in range(2))
    for page in (one, two):
        page.goto(url, timeout=PATIENCE)
        page.locator("video").wait_for(timeout=PATIENCE)

    # The first runs something long; the second turns a knob meanwhile, and is answered.
    one.get_by_label("model", exact=True).select_option("lab-dit")
    one.get_by_text("done in").wait_for(timeout=PATIENCE)
    handle(one, "sampling steps").focus()
    one.keyboard.press("End")
    formed = one.get_by_alt_text(re.compile(r"^guided, frame 9 as predicted after step \d+ of 100"))
    formed.first.wait_for(timeout=PATIENCE)
    before = two.locator("video").get_attribute("src")
    handle(two, "strength").focus()
    for _ in range(10):
        two.keyboard.press("ArrowRight")
    two.get_by_text("the twin was known").wait_for(timeout=PATIENCE)
    two.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert two.locator("video").get_attribute("src") != before
    assert one.get_by_role("button", name="Cancel").is_enabled()  # still running
    assert float(handle(one, "strength").get_attribute("aria-valuetext")) == pytest.approx(0.5)

    # The second cancels its own next run; the first's goes on to its end.
    assert two.get_by_role("button", name="Cancel").is_disabled()
    two.get_by_label("model", exact=True).select_option("lab-dit")
    two.get_by_role("button", name="Cancel").click()
    two.get_by_text("cancelled; what was finished is kept").wait_for(timeout=PATIENCE)
    assert one.get_by_text("cancelled").count() == 0
    one.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert one.get_by_label("model", exact=True).input_value() == two.get_by_label("model", exact=True).input_value() == "lab-dit"
    assert one.locator("#guided").inner_text() == "100 of 100"
