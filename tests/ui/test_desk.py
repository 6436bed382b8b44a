"""A real browser on what every page has: a run forked on its way, the command that makes it again, a grid of two knobs."""

import shlex
import subprocess
import sys

import pytest
from servers import handle

from vidistill.lab.gvd_session import KNOBS
from vidistill.widgets.knob_panel import label

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine


def formed(page, step):
    """Return the picture of the guided clip after a step."""
    return page.get_by_alt_text(f"guided, frame 9 as predicted after step {step} of 4").first.get_attribute("src")


def opened(page, url):
    page.goto(url, timeout=PATIENCE)
    page.locator("video").first.wait_for(timeout=PATIENCE)
    page.get_by_alt_text("guided, frame 9 as predicted after step 3 of 4").first.wait_for(timeout=PATIENCE)


def test_a_fork_differs_only_after_its_step(page, serve, tiny_notebook):
    opened(page, serve(tiny_notebook("gvd")))
    before = [formed(page, step) for step in (1, 2, 3)]
    handle(page, "fork after step").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Fork after step 2").press("Enter")
    page.get_by_text("The next run keeps steps 1 to 2 of run 1").wait_for(timeout=PATIENCE)
    handle(page, "strength").press("End")
    page.get_by_text("forked, until step 2: strength").first.wait_for(timeout=PATIENCE)
    page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
    after = [formed(page, step) for step in (1, 2, 3)]
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert page.get_by_role("button", name="✓ run 2 shown").count() == 1

    # From the beginning again: the same knobs from the first step on.
    page.get_by_role("button", name="From the beginning again").press("Enter")
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    page.get_by_role("button", name="✓ run 3 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
    assert formed(page, 1) != before[0]
    assert page.get_by_text("forked, until step").filter(visible=True).count() == 0


def test_the_command_of_a_page_makes_the_same_again(page, serve, tiny_notebook, tmp_path):
    opened(page, serve(tiny_notebook("gvd", models="", model="lab-dit", sampling_steps=4)))
    handle(page, "strength").press("PageUp")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
    page.locator(".card-header", has_text="Copy as command").press("Enter")
    command = page.get_by_label("command that makes it again, without a screen", exact=True)
    command.wait_for(timeout=PATIENCE)
    told = page.locator("code[title]").first.get_attribute("title")

    words = shlex.split(command.input_value())
    assert words[:3] == ["vidistill", "explore", "gvd"]
    assert any(word.startswith("strength=") for word in words)
    line = [sys.executable, "-m", "vidistill.lab.cli", *words[1:], "--out", str(tmp_path / "again")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"record hash: {told}" in done.stdout


def test_a_grid_of_two_knobs(page, serve, tiny_notebook):
    opened(page, serve(tiny_notebook("gvd")))
    page.locator(".card-header", has_text="Grid of two knobs").press("Enter")
    for where, knob, proposed, typed in (("across", "strength", "0.5", "0.1, 2"), ("down", "decay", "linear", "none, expp")):
        page.get_by_label(f"knob {where}").select_option(label(KNOBS[knob]))
        box = page.get_by_label(f"its values {where}, with commas")
        page.wait_for_function("([box, words]) => box.value.includes(words)", arg=[box.element_handle(), proposed])
        box.fill(typed)
        box.press("Tab")
    page.get_by_role("alert").filter(has_text="exp").first.wait_for(timeout=PATIENCE)
    page.get_by_label("its values down, with commas").fill("none, exp")
    page.get_by_label("its values down, with commas").press("Tab")
    page.get_by_role("button", name="Make the grid").press("Enter")
    page.get_by_role("button", name="Show cell 2, 2").wait_for(timeout=PATIENCE)
    page.get_by_text("4 of 4 clips made").wait_for(timeout=PATIENCE)
    assert float(handle(page, "strength").get_attribute("aria-valuetext")) == pytest.approx(0.5)  # the page's own knobs stay
    page.get_by_role("button", name="Show cell 2, 2").click()  # which waits until there is a clip
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    assert float(handle(page, "strength").get_attribute("aria-valuetext")) == pytest.approx(2)
    assert page.get_by_role("combobox", name="decay").input_value() == "exp"
