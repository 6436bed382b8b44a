"""The zoo's page: words compose the prompt and are read from it, a run shows what the bench made, right and wrong never by colour alone."""

import asyncio
import html
import re

import pytest
import torch
from pages import unknown_word

from vidistill.lab.zoo_session import PROMPT, Reading, Take, ZooSession
from vidistill.widgets.knob_panel import OWN
from vidistill.widgets.zoo import ZooBench, alt_text, readings_html, static_views

FEW = {"steps": 3, "guidance": 2.0, "seed": 5}


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet):
    return ZooSession({"dit": tiny_dit, "unet": tiny_unet})


@pytest.fixture(scope="module")
def first(session):
    return session.takes(PROMPT, ["dit"], FEW)


@pytest.fixture
def bench(session, first):
    return ZooBench(session, first)


def take(model="dit", **more):
    readings = (
        Reading("motion", "orbit", "spin", None),
        Reading("shape", "star", "star", (12, 15)),
        Reading("colour", "", "hidden", (0, 0)),
    )
    return Take(model, "a <star>", 1, 20, 5.0, torch.zeros(3, 16, 64, 64, dtype=torch.uint8), readings, 1.234, 40, 0.0, **more)


def test_right_and_wrong_are_signs_and_words():
    page = readings_html([take(), take("<unet>")])
    marks = re.findall(r'data-mark="([^"]+)"', page)
    assert marks == ["wrong", "wrong", "right", "right", "not asked", "not asked"]
    words = re.sub(r"<[^>]+>", "", page)
    assert words.count("✗ wrong") == words.count("✓ right") == words.count("– not asked") == 2
    assert "in 12 of 15 frames" in words
    assert "0 of 0" not in words
    assert "1 of 2" in words  # of two factors asked, one is there
    assert "1.23" in words
    assert "40" in words
    assert "&lt;unet&gt;" in page
    assert 'scope="row"' in page
    assert "spin, star, hidden" in alt_text([take()])


def test_the_first_state_is_the_first_take(bench, first):
    assert bench.prompt.value == PROMPT
    assert {name: select.value for name, select in bench.words.items()} == {
        "motion": "orbit", "shape": "star", "colour": "purple", "background": "forest", "camera": "pan-left",
    }  # fmt: skip
    assert (bench.panel.values["steps"], bench.panel.values["guidance"], bench.panel.seed) == (3, 2.0, 5)
    assert "<video" in bench.player._screen.object
    assert "seed 5, 3 steps, guidance 2" in bench._made.object
    assert f"{first[0].score[0]} of 5" in bench._table.object
    assert "no README.md" in bench._card.object
    bench.__panel__()


def test_words_compose_the_prompt_and_are_read_from_it(bench):
    bench.words["colour"].value = "orange"
    bench.words["camera"].value = ""
    bench.words["motion"].value = "fall"
    assert bench.prompt.value == "an orange star falling over a forest background"

    async def typing():
        bench.prompt.value = "a ring pulsing, still camera"
        await asyncio.sleep(0)
        await bench._typed(None)

    asyncio.run(typing())
    values = {name: select.value for name, select in bench.words.items()}
    assert values == {"motion": "pulse", "shape": "ring", "colour": "", "background": "", "camera": "still"}
    assert bench.prompt.value == "a ring pulsing, still camera"  # reading the words back does not rewrite what was typed
    assert bench._hint.object == ""


def test_an_unknown_word_is_named_while_typing_and_refused_by_a_run(bench):
    hint = unknown_word(bench)
    assert "purpel" in hint
    assert "purple" in hint
    assert bench._hint.object == ""  # said once: by the run
    assert f"{PROMPT} · seed 5" in bench._made.object  # the last clip stays


def test_a_run_shows_what_the_bench_makes_beside_the_other_model(bench, session):
    bench.panel.set({"steps": 4, "guidance": 2.0})
    bench.panel.seed = 9
    bench.words["shape"].value = "cross"
    bench.other.value = "unet"
    asyncio.run(bench.run())
    assert bench.bar.failed == ""
    made = session.takes(bench.prompt.value, ["dit", "unet"], {"steps": 4, "guidance": 2.0, "seed": 9})
    assert [take.model for take in bench._takes] == ["dit", "unet"]
    assert all(torch.equal(a.clip, b.clip) for a, b in zip(bench._takes, made, strict=True))
    assert bench.player._names == ["dit", "unet"]
    assert "a purple cross orbiting" in bench._made.object
    assert 'scope="col"' in bench._table.object
    assert bench._table.object.count("data-mark") == 10
    assert "as predicted after step 1 of 4" in bench.strip._pane.object
    assert len([name for name in ("dit", "unet") if f">{name}</div>" in bench.strip._pane.object]) == 2


def test_cancel_keeps_what_was_formed_and_the_last_clip(bench):
    bench.panel.set({"steps": 50})
    bench.model.value = "unet"
    film = bench.player._screen.object

    async def play():
        run = asyncio.create_task(bench.run())
        while not bench.strip.shown("unet"):
            await asyncio.sleep(0.005)
        bench.bar.cancel_button.clicks += 1
        await run

    asyncio.run(play())
    assert "cancelled" in bench.bar._words.object
    assert 1 <= bench.strip.shown("unet") < 4
    assert "unet, frame 9 as predicted after step" in bench.strip._pane.object
    assert bench.player._screen.object == film
    assert bench._takes == []


def test_knobs_follow_the_model_until_somebody_turns_them(bench):
    assert bench.panel.preset.value == OWN  # three steps are no model's own
    bench.model.value = "unet"
    assert bench.panel.values["steps"] == 3
    bench.panel.preset.value = "unet's own"
    assert (bench.panel.values["steps"], bench.panel.values["guidance"]) == (4, 3.0)
    bench.model.value = "dit"
    assert bench.panel.preset.value == "dit's own"
    assert bench._expander.title == "Card of dit"


def test_a_damaged_model_is_one_line_on_the_page(first, tiny_dit, tmp_path):
    bench = ZooBench(ZooSession({"dit": tiny_dit, "broken": tmp_path}), first)
    bench.model.value = "broken"
    asyncio.run(bench.run())
    assert "holds no model" in bench.bar.failed
    assert 'role="alert"' in bench.bar._error.object
    assert "Traceback" not in bench.bar._error.object


def test_a_cards_html_is_not_executed(first, tiny_dit, tmp_path):
    (tmp_path / "README.md").write_text("# card\n\n<img src=x onerror=alert(1)>\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n")
    bench = ZooBench(ZooSession({"dit": tiny_dit, "mine": tmp_path}), first)
    bench.model.value = "mine"
    shown = bench._card._transform_object(bench._card.object)["object"]
    page = html.unescape(shown)  # panel escapes what it sends once more
    assert "<table>" in page
    assert "&lt;img" in page
    assert "<img" not in page


def test_static_views_hold_a_film_of_every_model_and_the_readings(session):
    import io

    from PIL import Image

    takes = session.takes(PROMPT, session.names, FEW)
    film, made, table = static_views(takes)
    picture = Image.open(io.BytesIO(film.data))
    assert picture.n_frames == 16
    assert picture.width > 2 * 128
    assert PROMPT in made.data
    assert table.data.count("data-mark") == 10


def test_the_notebook_declares_the_knobs_as_the_bench_does():
    import nbformat

    from vidistill.lab.runner import notebooks_dir
    from vidistill.lab.zoo_session import KNOBS

    notebook = nbformat.read(notebooks_dir() / "explore" / "zoo.ipynb", 4)
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    assert KNOBS.parameters_cell() in source
    assert f'prompt: str = "{PROMPT}"' in source
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
