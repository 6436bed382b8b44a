"""A real browser on the explore notebook: the keyboard moves the rank slider, and clip and numbers follow."""

import re
import time

import pytest
from servers import handle as handle_of

from vidistill.lab.runner import notebooks_dir

pytestmark = pytest.mark.ui

NOTEBOOK = notebooks_dir() / "explore" / "latent_vdd.ipynb"
PATIENCE = 120_000  # ms, for the first encode on a busy machine; about 15 s on two free cores


def wait_for_change(locator, attribute, before, patience=20.0):
    began = time.monotonic()
    while (now := locator.get_attribute(attribute) if attribute else locator.inner_text()) == before:
        assert time.monotonic() - began < patience, f"nothing changed in {patience} s"
        time.sleep(0.02)
    return now


def test_the_rank_slider_changes_clip_and_numbers(page, serve):
    page.goto(serve(NOTEBOOK), timeout=PATIENCE)
    video = page.locator("video")
    video.wait_for(timeout=PATIENCE)

    # The first state teaches untouched: a film that plays, numbers, a lit lamp, the paper's value marked.
    assert video.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert video.evaluate("film => film.videoWidth") > 300
    assert "distilled" in video.get_attribute("aria-label")
    assert page.locator('svg[aria-label="kernel lamp: lit"]').count() == 1
    assert page.get_by_text("paper's value").count() > 0

    # A release of the slider, by keyboard alone.
    source, size, error = video.get_attribute("src"), page.locator("#bytes").inner_text(), page.locator("#error").inner_text()
    handle = handle_of(page, "rank ratio")
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    wait_for_change(video, "src", source)
    assert wait_for_change(page.locator("#bytes"), "", size) != size
    now = wait_for_change(page.locator("#error"), "", error)
    assert float(now.split()[0]) > float(error.split()[0])  # fewer components, more error
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert float(handle.get_attribute("aria-valuetext")) == pytest.approx(0.5)

    # The official kernel puts the lamp out.
    page.get_by_label("kernel", exact=False).first.select_option("official")
    page.locator('svg[aria-label="kernel lamp: dark"]').wait_for(timeout=PATIENCE)
    assert page.get_by_text("this k-DPP is uniform random sampling").count() == 1

    # A folder that is not there is an error on the page, and the bench lives on.
    page.get_by_label("data set").select_option("a folder of videos")
    page.get_by_label("folder", exact=True).fill("/no/such/folder")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Open the folder").click()
    page.get_by_role("alert").wait_for(timeout=PATIENCE)
    assert "/no/such/folder" in page.get_by_role("alert").inner_text()
    assert video.count() == 1


def test_runs_are_compared_and_recalled_with_their_knobs(page, serve):
    page.goto(serve(NOTEBOOK), timeout=PATIENCE)
    page.get_by_role("button", name="Pause").click()  # a still keeps every pixel
    still = page.locator("img[alt^='One clip, playing in step']")
    still.wait_for(timeout=PATIENCE)
    source, size = still.get_attribute("src"), page.locator("#bytes").inner_text()
    page.get_by_label("core dtype", exact=False).first.select_option("fp32")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("From A to B: core dtype int8 → fp32.").wait_for(timeout=PATIENCE)
    assert page.locator("#bytes").inner_text() != size
    assert still.get_attribute("src") != source
    page.get_by_label("compare by").select_option("side by side")
    page.get_by_role("button", name="Play").last.click()
    film = page.locator("video[aria-label^='A, run 1, and B, run 2, in step']")
    film.wait_for(timeout=PATIENCE)
    assert film.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("[")
    page.get_by_role("button", name="✓ run 1 shown").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(1000)
    assert (still.get_attribute("src"), page.locator("#bytes").inner_text()) == (source, size)
    assert page.get_by_label("core dtype", exact=False).first.input_value() == "int8"
    assert page.get_by_role("button", name=re.compile("run 3")).count() == 0
