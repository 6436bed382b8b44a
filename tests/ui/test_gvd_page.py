"""A real browser on GVD's page: the keyboard turns lambda, the clip forms again beside its twin; centres, cancel and words answer."""

import re

import nbformat
import pytest
from servers import handle

from vidistill.lab.runner import notebooks_dir

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine


@pytest.fixture
def notebook(tiny_dit, tiny_unet, tmp_path):
    """The notebook with two tiny models for the zoo's own."""
    page = nbformat.read(notebooks_dir() / "explore" / "gvd.ipynb", 4)
    (cell,) = [cell for cell in page.cells if "parameters" in cell.metadata.get("tags", ())]
    own = {
        'models: str = ""': f'models: str = "dit={tiny_dit}, unet={tiny_unet}, lab-dit"',
        'model: str = "lab-dit"': 'model: str = "dit"',
        "per_class: int = 24": "per_class: int = 6",
        "centres: int = 8": "centres: int = 3",
    }
    for line, replaced in own.items():
        assert line in cell.source
        cell.source = cell.source.replace(line, replaced)
    nbformat.write(page, tmp_path / "gvd.ipynb")
    return tmp_path / "gvd.ipynb"


def test_the_pull_is_turned_by_keyboard_beside_the_same_twin(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    video, pull = page.locator("video"), page.locator("#pull")
    video.wait_for(timeout=PATIENCE)

    # The first state teaches untouched: three clips in one film, numbers, previews, four plots, the centre that pulls.
    assert video.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert video.evaluate("film => film.videoWidth") == 3 * 128 + 2 * 8
    assert "unguided twin (read as" in video.get_attribute("aria-label")
    assert page.locator("#guided").inner_text() == "4 of 4"
    assert page.get_by_alt_text("guided, frame 9 as predicted after step 1 of 4").count() == 1
    assert page.get_by_alt_text("centre 1 pulls").count() == 1
    assert page.locator(".js-plotly-plot").filter(visible=True).count() == 4
    assert page.get_by_text("paper's value").count() > 0

    # Lambda by keyboard: the guided clip is sampled again, the twin is not.
    before = pull.inner_text()
    handle(page, "strength").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.get_by_text("the twin was known").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert float(handle(page, "strength").get_attribute("aria-valuetext")) == pytest.approx(1.0)
    assert pull.inner_text() != before

    # Lambda of 0 is no guidance, and the page says so.
    page.keyboard.press("Home")
    page.locator('[data-alarm="no guidance"]').wait_for(timeout=PATIENCE)
    assert "lambda is 0" in page.locator('[data-alarm="no guidance"]').inner_text()
    page.keyboard.press("ArrowRight")
    page.locator('[data-alarm="no guidance"]').wait_for(state="detached", timeout=PATIENCE)

    # The decay is drawn anew, another centre pulls.
    page.get_by_label("decay", exact=False).select_option("none")
    page.locator(".js-plotly-plot").first.evaluate(
        "plot => new Promise(done => { const look = () => plot.data[0].y[15] === 1 ? done(true) : setTimeout(look, 50); look(); })"
    )
    handle(page, "pick").focus()
    page.keyboard.press("End")
    page.get_by_alt_text("centre 3 pulls").wait_for(timeout=PATIENCE)

    # A word that the model does not know is named, nothing else happens; another class brings its own word.
    prompt, source = page.get_by_label("prompt", exact=True), video.get_attribute("src")
    prompt.fill("a purpel ring")
    prompt.press("Enter")
    page.get_by_role("alert").filter(has_text="nearest known word: 'purple'").wait_for(timeout=PATIENCE)
    assert video.get_attribute("src") == source
    prompt.fill("slide")
    prompt.press("Enter")
    page.get_by_text("slide · seed 0").wait_for(timeout=PATIENCE)
    page.get_by_label("class", exact=True).select_option("orbit")
    page.locator('video[aria-label*="One class, orbit"]').wait_for(timeout=PATIENCE)
    assert prompt.input_value() == "orbit"
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.get_by_role("alert").filter(visible=True).count() == 0

    # A model that adds noise lets eta be turned.
    assert page.get_by_text("none: dit samples a flow").count() == 1
    page.get_by_label("model", exact=True).select_option("unet")
    page.get_by_text("0: DDIM, 1: DDPM").wait_for(timeout=PATIENCE)
    page.get_by_text("orbit · seed 0, unet").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # Cancel, by keyboard: a run of seconds ends within a step, what was formed stays, and so does the last clip.
    page.get_by_label("model", exact=True).select_option("lab-dit")
    page.get_by_text("orbit · seed 0, lab-dit").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    source = video.get_attribute("src")
    handle(page, "sampling steps").focus()
    page.keyboard.press("End")
    formed = page.get_by_alt_text(re.compile(r"^guided, frame 9 as predicted after step \d+ of 100"))  # as soon as one is paid for
    formed.first.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.get_by_text("cancelled; what was finished is kept").wait_for(timeout=PATIENCE)
    assert formed.count() >= 1
    assert video.get_attribute("src") == source


def test_runs_are_compared_on_one_clock_and_recalled_with_their_class(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    page.get_by_role("button", name="Pause").click()  # a still keeps every pixel
    still = page.locator('img[alt^="One class, slide"]')
    still.wait_for(timeout=PATIENCE)
    source, label = still.get_attribute("src"), page.get_by_label("class", exact=True)
    assert page.get_by_role("button", name="✓ run 1 shown").count() == 1

    # A class, which brings its prompt, and another seed by a single key: each is a run, in words.
    label.select_option("orbit")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.get_by_alt_text("middle frame of run 2: label slide → orbit, prompt slide → orbit").count() == 1
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("d")
    page.get_by_role("button", name="✓ run 3 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # Side by side, playing, both are one film.
    page.get_by_label("compare by").select_option("side by side")
    page.get_by_role("button", name="Play").last.click()
    film = page.locator("video[aria-label^='A, run 2, and B, run 3, in step']")
    film.wait_for(timeout=PATIENCE)
    assert film.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert film.evaluate("film => film.videoWidth") == 2 * 128 + 8

    # The first again: its picture to the byte, its class, its prompt, its seed, and no run of its own.
    page.get_by_role("button", name="Show run 1").press("Enter")
    page.get_by_role("button", name="✓ run 1 shown").wait_for(timeout=PATIENCE)
    still.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(1000)
    assert still.get_attribute("src") == source
    assert (label.input_value(), page.get_by_label("prompt", exact=True).input_value()) == ("slide", "slide")
    assert page.get_by_label("seed", exact=True).input_value() == "0"
    assert page.get_by_role("button", name=re.compile("run 4")).count() == 0

    # The run that comes after it, by a single key; a letter in the prompt is none.
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("]")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_label("prompt", exact=True).focus()
    page.keyboard.type("]")
    page.wait_for_timeout(500)
    assert page.get_by_role("button", name="✓ run 2 shown").count() == 1
