"""A real browser on few steps: clips on one clock, a wrong rule named, a student trained in the plane by keyboard, cancel, rows, alarms."""

import re

import nbformat
import pytest
import servers

from vidistill.lab.runner import notebooks_dir

pytestmark = pytest.mark.ui

PATIENCE = 180_000  # ms, on a busy machine
PROMPT = "a red star orbiting over a navy background"
UPDATE = "page => +/student, update (\\d[\\d,]*) of/.exec(page.layout.meta.words)[1].replace(',', '')"


@pytest.fixture
def notebook(tiny_dit, tiny_students, tmp_path):
    """The notebook with tiny models, and teachers of points that are trained for a second."""
    page = nbformat.read(notebooks_dir() / "explore" / "few_step.ipynb", 4)
    (cell,) = [cell for cell in page.cells if "parameters" in cell.metadata.get("tags", ())]
    students = ", ".join(f"{name}={folder}" for name, folder in tiny_students.items())
    own = {
        'students: str = ""': f'students: str = "{students}"',
        'teacher: str = "lab-dit"': f'teacher: str = "dit={tiny_dit}"',
        'prompt: str = "a purple star orbiting over a forest background, camera pan-left"': f'prompt: str = "{PROMPT}"',
        "steps: int = 20": "steps: int = 6",
        "updates: int = 150": "updates: int = 20",
        "teaching: int = 0": "teaching: int = 100",
    }
    for line, replaced in own.items():
        assert line in cell.source
        cell.source = cell.source.replace(line, replaced)
    nbformat.write(page, tmp_path / "few_step.ipynb")
    return tmp_path / "few_step.ipynb"


def handle(page, name):
    return servers.handle(page, name).first  # clips and points have sliders of one name


def test_clips_and_points_are_driven_by_keyboard(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    video = page.locator("video")
    video.wait_for(timeout=PATIENCE)
    cancel = page.get_by_role("button", name="Cancel")
    done = page.get_by_text("done in")

    # The first state teaches untouched: five clips in one film, their seconds, and a world without a teacher yet.
    assert video.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert video.evaluate("film => film.videoWidth") == 5 * 128 + 4 * 8
    assert "each clip shown when it was ready: dit, 6 steps" in video.get_attribute("aria-label")
    assert page.locator('[id^="seconds-"]').count() == 5
    assert page.locator("td[data-mark]").count() == 5 * 5
    page.get_by_text("The teacher of this world is not there yet: 100 steps").wait_for(timeout=PATIENCE)
    page.get_by_text("Train to see it.").wait_for(timeout=PATIENCE)

    # The teacher's steps by keyboard, down to one.
    handle(page, "teacher's steps").focus()
    page.keyboard.press("Home")
    page.get_by_text("teacher in 1 steps").wait_for(timeout=PATIENCE)
    done.first.wait_for(timeout=PATIENCE)
    page.get_by_text("known before: anew, euler").wait_for(timeout=PATIENCE)

    # A rule that a student was not trained with is named.
    page.get_by_label("students are sampled", exact=True).select_option("ode")
    wrong = page.locator('[data-alarm="sampled against its training"]')
    wrong.wait_for(timeout=PATIENCE)
    assert "anew (sde)" in wrong.inner_text()
    page.get_by_label("students are sampled", exact=True).select_option("trained")
    wrong.wait_for(state="detached", timeout=PATIENCE)

    # A student less, by keyboard; the clock off, by keyboard.
    page.get_by_role("checkbox", name="anew").press("Space")
    page.locator('video[aria-label*="dit, 1 step "]:not([aria-label*="anew"])').wait_for(timeout=PATIENCE)
    assert page.locator('[id^="seconds-"]').count() == 4
    length = "film => new Promise(done => { const look = () => film.duration ? done(film.duration) : setTimeout(look, 50); look(); })"
    assert video.evaluate(length) > 2  # a wait, and a loop of sixteen frames
    clock = page.get_by_role("checkbox", name="on one clock")
    clock.press("Space")
    assert not clock.is_checked()

    # A word that the models do not know is named, and the clips stay.
    prompt = page.get_by_label("prompt", exact=True)
    prompt.fill("a purpel ring")
    prompt.press("Enter")
    page.get_by_role("alert").filter(has_text="nearest known word: 'purple'").wait_for(timeout=PATIENCE)
    assert page.locator('[id^="seconds-"]').count() == 4
    prompt.fill("a purple ring")
    prompt.press("Enter")
    page.get_by_text("a purple ring · seed 0").wait_for(timeout=PATIENCE)
    done.first.wait_for(timeout=PATIENCE)

    # Train, by keyboard: the teacher once, then points and curves move, and a row stays.
    page.get_by_role("button", name="Train").focus()
    page.keyboard.press("Enter")
    plots = page.locator(".js-plotly-plot")
    moving = plots.filter(has_text="student, update")
    moving.wait_for(timeout=PATIENCE)
    page.locator('[data-run="run 1"]').wait_for(timeout=PATIENCE)
    assert moving.evaluate(UPDATE) == 20
    curves = plots.filter(has_text="student updates").last
    assert curves.evaluate("plot => plot.data.map(line => line.name)") == [
        "modes held", "on a mode", "radius", "pairwise diversity", "KL of the modes",
    ]  # fmt: skip
    assert curves.evaluate("plot => plot.data[0].x[0] === 0 && plot.data[0].x.at(-1) === 20")
    assert page.locator('[data-alarm="weak teacher"]').count() == 1
    assert page.locator('[data-run$="untrained"]').count() == 2

    # Go on from it with real data.
    page.get_by_label("go on from", exact=True).select_option("run 1")
    page.get_by_label("method", exact=True).select_option("dfd")
    page.get_by_role("button", name="Train").press("Enter")
    page.locator('[data-run="run 2"]').wait_for(timeout=PATIENCE)
    assert "quadrants: dfd, p 0.5, guidance 2, 20 updates, from run 1" in page.locator('[data-run="run 2"]').inner_text()

    # The other rule samples it again, as a row of its own.
    page.get_by_label("student is sampled", exact=True).select_option("ode")
    page.locator('[data-run="run 2, Euler"]').wait_for(timeout=PATIENCE)
    wrong.wait_for(timeout=PATIENCE)

    # Cancel, by keyboard: a long run ends within a step; its points stay, and there is no row.
    page.get_by_label("go on from", exact=True).select_option("the teacher")
    handle(page, "updates: ").focus()
    page.keyboard.press("End")
    page.get_by_role("button", name="Train").press("Enter")
    moving.filter(has_text=re.compile(r"update [1-9][\d,]* of 2,000")).wait_for(timeout=PATIENCE)
    cancel.last.press("Enter")
    page.get_by_text("cancelled; what was finished is kept").wait_for(timeout=PATIENCE)
    assert moving.evaluate(UPDATE) >= 1
    assert page.locator('[data-run="run 3"]').count() == 0

    # An arm that has nothing of its own in this world is one line.
    page.get_by_label("world", exact=True).select_option("ring-8")
    page.get_by_text("The teacher of this world is not there yet").wait_for(timeout=PATIENCE)
    page.get_by_label("method", exact=True).select_option("dfd-cfg1")
    page.get_by_role("button", name="Train").press("Enter")
    page.get_by_role("alert").filter(has_text="nothing is guided here").wait_for(timeout=PATIENCE)
    assert page.locator('[data-run="run 1"]').count() == 1


def test_runs_are_compared_and_recalled_with_their_students(page, serve, notebook):
    page.goto(serve(notebook), timeout=PATIENCE)
    page.locator("video").wait_for(timeout=PATIENCE)
    page.get_by_role("checkbox", name="anew").press("Space")
    page.get_by_role("button", name="✓ run 2 shown").wait_for(timeout=PATIENCE)
    page.get_by_text("From A to B: students anew, euler → euler.").wait_for(timeout=PATIENCE)
    page.get_by_label("clip A").select_option("teacher of run 2")
    page.get_by_label("compare by").select_option("side by side")
    page.get_by_role("button", name="Play").click()
    film = page.locator("video[aria-label^='A, teacher of run 2, and B, run 2, in step']")
    film.wait_for(timeout=PATIENCE)
    assert film.evaluate("film => new Promise(done => { film.onplaying = () => done(true); if (film.readyState > 2) done(true); })")
    assert film.evaluate("film => film.videoWidth") == 2 * 128 + 8
    page.get_by_role("button", name="? Keys").focus()
    page.keyboard.press("[")
    page.get_by_role("button", name="✓ run 1 shown").wait_for(timeout=PATIENCE)
    page.locator('video[aria-label*="anew, 4 steps"]').wait_for(timeout=PATIENCE)
    page.wait_for_timeout(1000)
    assert page.get_by_role("checkbox", name="anew").is_checked()
    assert page.get_by_role("button", name=re.compile("run 3")).count() == 0
