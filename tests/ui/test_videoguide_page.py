"""A real browser on VideoGuide's page: the keyboard turns beta, the guided clip forms again beside the same two; mask, cancel and words."""

import re

import nbformat
import pytest
from servers import handle

from vidistill.lab.runner import notebooks_dir

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine
PROMPT = "a red star orbiting over a navy background"


@pytest.fixture
def notebook(tiny_dit, tiny_unet, tmp_path):
    """The notebook with two tiny models for the zoo's own."""
    page = nbformat.read(notebooks_dir() / "explore" / "videoguide.ipynb", 4)
    (cell,) = [cell for cell in page.cells if "parameters" in cell.metadata.get("tags", ())]
    own = {
        'models: str = ""': f'models: str = "unet={tiny_unet}, dit={tiny_dit}, lab-unet"',
        'prompt: str = "a purple circle orbiting over a forest background, still camera"': f'prompt: str = "{PROMPT}"',
        'base: str = "lab-base"': 'base: str = "unet"',
        'teacher: str = "lab-unet"': 'teacher: str = "dit"',
        "beta: float = 0.2": "beta: float = 0.5",
        "guided: int = 8": "guided: int = 2",
        "tau: int = 4": "tau: int = 2",
        "points: int = 11": "points: int = 5",
        "space: float = 0.0": "space: float = 0.25",
    }
    for line, replaced in own.items():
        assert line in cell.source
        cell.source = cell.source.replace(line, replaced)
    nbformat.write(page, tmp_path / "videoguide.ipynb")
    return tmp_path / "videoguide.ipynb"


def test_beta_is_turned_by_keyboard_beside_the_same_base_and_teacher(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    video = page.locator("video")
    video.wait_for(timeout=PATIENCE)

    # The first state teaches untouched: three clips in one film, numbers, previews, five plots.
    assert video.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert video.evaluate("film => film.videoWidth") == 3 * 128 + 2 * 8
    assert "from the same noise: unet alone" in video.get_attribute("aria-label")
    assert page.locator("#evaluations").inner_text() == f"{8 + 2 * 4}"
    assert page.get_by_alt_text("guided, frame 9 as predicted after step 1 of 4").count() == 1
    assert page.locator(".js-plotly-plot").filter(visible=True).count() == 5
    assert page.get_by_text("paper's value").count() > 0
    assert page.get_by_text("known before").count() == 0

    # Beta by keyboard: the guided clip is sampled again, base and teacher are not.
    source = video.get_attribute("src")
    handle(page, "interpolation beta").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.get_by_text("known before: base alone, teacher alone").wait_for(timeout=PATIENCE)
    page.get_by_text("tau 2, beta 0.3").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert float(handle(page, "interpolation beta").get_attribute("aria-valuetext")) == pytest.approx(0.3)
    assert video.get_attribute("src") != source

    # No guided step is no teacher, and the page says so; I is held to the sampler's steps.
    handle(page, "guided steps").focus()
    page.keyboard.press("Home")
    page.locator('[data-alarm="no teacher"]').wait_for(timeout=PATIENCE)
    assert "I is 0" in page.locator('[data-alarm="no teacher"]').inner_text()
    page.keyboard.press("End")
    page.get_by_text("the first 4 of 4 steps are guided").first.wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.locator("#evaluations").inner_text() == f"{8 + 4 * 4}"

    # Without a filter the mask keeps everything.
    handle(page, "cut-off in space").focus()
    page.keyboard.press("Home")
    page.locator(".js-plotly-plot").filter(visible=True).last.evaluate(
        "plot => new Promise(done => { const look = () => plot.data[1].x.length === 128 ? done(true) : setTimeout(look, 50); look(); })"
    )
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # The rest is folded, and opens by keyboard.
    assert page.get_by_label("other steps by").filter(visible=True).count() == 0
    page.locator(".card-header", has_text="more knobs").focus()
    page.keyboard.press("Enter")
    page.get_by_label("other steps by").wait_for(timeout=PATIENCE)
    page.get_by_label("other steps by").select_option("cfg++")
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # A teacher that begins at the same index cannot be of the other family: one line, and the last clip stays.
    source = video.get_attribute("src")
    page.get_by_label("teacher begins at").select_option("same_index")
    page.get_by_role("alert").filter(has_text="t_map=same_index means nothing between").wait_for(timeout=PATIENCE)
    assert video.get_attribute("src") == source

    # Its own teacher may be the base: two clips.
    page.get_by_label("teacher", exact=True).select_option("the base itself")
    page.locator('video[aria-label*="unet guided by itself"]').wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    width = "film => new Promise(done => { const look = () => film.videoWidth ? done(film.videoWidth) : setTimeout(look, 50); look(); })"
    assert video.evaluate(width) == 2 * 128 + 8
    assert page.get_by_role("alert").filter(visible=True).count() == 0

    # A word that the models do not know is named, nothing else happens.
    prompt, source = page.get_by_label("prompt", exact=True), video.get_attribute("src")
    prompt.fill("a purpel ring")
    prompt.press("Enter")
    page.get_by_role("alert").filter(has_text="nearest known word: 'purple'").wait_for(timeout=PATIENCE)
    assert video.get_attribute("src") == source
    prompt.fill("a purple ring")
    prompt.press("Enter")
    page.get_by_text("a purple ring · seed 0").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # Cancel, by keyboard: a run of seconds ends within a step, what was formed stays, and so does the last clip.
    page.get_by_label("base model", exact=True).select_option("lab-unet")
    page.locator('video[aria-label*="lab-unet guided by itself"]').wait_for(timeout=PATIENCE)
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


def test_runs_are_compared_on_one_clock_and_recalled_with_their_knobs(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    page.locator("video").wait_for(timeout=PATIENCE)
    stage = page.locator("img[alt^='A, '], video[aria-label^='A, ']")
    assert stage.get_attribute("alt").startswith("A, base alone of run 1, and B, run 1, in step; and how they differ. They differ by")
    assert page.get_by_role("button", name="✓ run 1 shown").count() == 1

    # Another beta is another run, and is compared with the one before.
    handle(page, "interpolation beta").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("From A to B: beta 0.5 → 0.45.").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.get_by_alt_text("middle frame of run 2: beta 0.5 → 0.45").count() == 1

    # Played side by side they are one film, so no clock can come between them.
    page.get_by_label("compare by").select_option("side by side")
    page.get_by_role("button", name="Play").click()
    film = page.locator("video[aria-label^='A, run 1, and B, run 2, in step']")
    film.wait_for(timeout=PATIENCE)
    assert film.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert film.evaluate("film => film.videoWidth") == 2 * 128 + 8

    # Swiped, and stopped: the border moves by keyboard, and the picture with it.
    page.get_by_label("compare by").select_option("swipe")
    page.locator("video[aria-label*='border at 50 %']").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Pause").last.click()
    still = page.locator("img[alt*='border at 50 %']")
    still.wait_for(timeout=PATIENCE)
    before = still.get_attribute("src")
    handle(page, "border: A left of it").focus()
    page.keyboard.press("Home")
    page.locator("img[alt*='border at 0 %']").wait_for(timeout=PATIENCE)
    assert page.locator("img[alt*='border at 0 %']").get_attribute("src") != before

    # Blinked, it goes on while time stands still.
    page.get_by_label("compare by").select_option("blink")
    page.locator("video[aria-label*='in turn, 2 changes a second']").wait_for(timeout=PATIENCE)

    # Recall: the knob goes back with the clip, and nothing is sampled.
    page.get_by_role("button", name="Show run 1").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="✓ run 1 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("beta 0.5", exact=False).first.wait_for(timeout=PATIENCE)
    slider = handle(page, "interpolation beta")
    look = "const look = () => +handle.getAttribute('aria-valuetext') === 0.5 ? done(true) : setTimeout(look, 50);"
    assert slider.evaluate(f"handle => new Promise(done => {{ {look} look(); }})")
    page.wait_for_timeout(500)
    assert page.get_by_role("button", name=re.compile("run 3")).count() == 0

    # Any two can be picked.
    page.get_by_role("button", name="2 as A").click()
    page.get_by_role("button", name="✓ 2 as A").wait_for(timeout=PATIENCE)
    page.get_by_text("A and B were made in the same way").wait_for(timeout=PATIENCE)

    # Single keys: the list, the next run, the way to compare, the dice; while a word is typed they are letters.
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("?")
    page.get_by_text("compare in another way").wait_for(timeout=PATIENCE)
    page.keyboard.press("m")
    page.locator("img[alt^='A, run 2, and B, run 2, in step; and how they differ']").wait_for(timeout=PATIENCE)
    page.keyboard.press("]")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    prompt = page.get_by_label("prompt", exact=True)
    prompt.focus()
    page.keyboard.press("End")
    page.keyboard.type("[r]")
    assert prompt.input_value() == f"{PROMPT}[r]"
    assert page.get_by_role("button", name="✓ run 2 shown").count() == 1
    page.keyboard.press("Control+a")
    page.keyboard.type(PROMPT)
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("d")
    page.get_by_role("button", name="✓ run 3 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)

    # A switch silences them; it has a name, and is reached by keyboard.
    switch = page.get_by_role("checkbox", name="listen to single keys")
    assert switch.is_checked()
    switch.press("Space")
    page.wait_for_timeout(1000)  # the switch is heard by the server first
    page.keyboard.press("[")
    page.wait_for_timeout(500)
    assert page.get_by_role("button", name="✓ run 3 shown").count() == 1
    switch.press("Space")
    page.wait_for_timeout(500)
    page.keyboard.press("[")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
