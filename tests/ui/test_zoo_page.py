"""A real browser on the zoo's page: a prompt typed, corrected, run and compared, all by keyboard."""

import nbformat
import pytest

from vidistill.lab.runner import notebooks_dir

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine
FOCUSED = """() => {
  let at = document.activeElement;
  while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
  const label = at.labels && at.labels.length ? at.labels[0].innerText : "";
  const group = at.closest(".bk-input-group");
  const beside = at.nextElementSibling ? at.nextElementSibling.innerText || "" : "";
  return (label || (group ? group.innerText : "") || at.innerText || beside || at.tagName).trim().split("\\n")[0];
}"""


@pytest.fixture
def notebook(tiny_dit, tiny_unet, tmp_path):
    """The notebook with two tiny models for the zoo's own."""
    page = nbformat.read(notebooks_dir() / "explore" / "zoo.ipynb", 4)
    (cell,) = [cell for cell in page.cells if "parameters" in cell.metadata.get("tags", ())]
    own = {'models: str = ""': f'models: str = "dit={tiny_dit}, unet={tiny_unet}"', 'model: str = "lab-dit"': 'model: str = "dit"'}
    for line, replaced in own.items():
        assert line in cell.source
        cell.source = cell.source.replace(line, replaced)
    nbformat.write(page, tmp_path / "zoo.ipynb")
    return tmp_path / "zoo.ipynb"


def test_a_prompt_is_corrected_run_and_compared_by_keyboard(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    video = page.locator("video")
    video.wait_for(timeout=PATIENCE)
    assert video.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert "purple star" in video.get_attribute("aria-label")
    marks = page.locator("td[data-mark]")
    assert marks.count() == 5

    # Tab alone reaches every control.
    prompt = page.get_by_label("prompt", exact=True)
    prompt.focus()
    reached = []
    for _ in range(40):
        reached.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    wanted = ("prompt", "motion", "shape", "colour", "background", "camera", "Run", "model", "compare with", "preset", "Reset", "steps")
    for name in (*wanted, "guidance", "seed", "Dice", "keep", "Pause", "frame", "BUTTON"):  # the last is the card, its name lies deeper
        assert any(label.startswith(name) for label in reached), f"{name} not in {dict.fromkeys(reached)}"
    page.get_by_role("button", name="Card of dit").press("Enter")
    page.get_by_text("There is no README.md").wait_for(timeout=PATIENCE)

    # A word that the model does not know is named, and nothing else happens.
    before = video.get_attribute("src")
    prompt.fill("a purpel ring spinning")
    prompt.press("Enter")
    page.get_by_role("alert").filter(has_text="nearest known word: 'purple'").wait_for(timeout=PATIENCE)
    assert video.get_attribute("src") == before

    # Corrected, it runs, and the lists of words follow.
    prompt.fill("a purple ring spinning")
    prompt.press("Enter")
    page.get_by_text("a purple ring spinning · seed 0").wait_for(timeout=PATIENCE)
    page.get_by_text("done in").wait_for(timeout=PATIENCE)
    assert page.get_by_role("alert").filter(visible=True).count() == 0
    assert page.get_by_label("shape", exact=True).input_value() == "ring"
    assert page.locator('td[data-mark="not asked"]').count() == 2
    assert page.get_by_alt_text("as predicted after step 1 of 20").count() == 1

    # A word picked from a list rewrites the prompt; the other model runs beside the first.
    page.get_by_label("colour", exact=True).select_option("white")
    page.get_by_label("compare with", exact=True).select_option("unet")
    page.get_by_role("button", name="Run", exact=True).focus()
    page.keyboard.press("Enter")
    page.locator('video[aria-label*="unet:"]').wait_for(timeout=PATIENCE)
    assert prompt.input_value() == "a white ring spinning"
    marks.nth(9).wait_for(timeout=PATIENCE)  # the table follows the film
    assert marks.count() == 10
    assert video.evaluate("film => film.videoWidth") == 2 * 128 + 8
