"""A page's copies: the command and the cell are those of what is shown, a closed card makes none, bad settings are one line."""

import asyncio

import panel as pn
import pytest
import torch

from vidistill.lab import explore
from vidistill.widgets.copies import Copies

CLIPS = {"guided <1>": torch.arange(3 * 2 * 4 * 4, dtype=torch.uint8).reshape(3, 2, 4, 4)}


def opened(copies):
    async def click():
        copies.card.collapsed = False
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if copies._told.object != "Nothing is shown yet.":
                return
        raise AssertionError("nothing was drawn")

    asyncio.run(click())


@pytest.fixture
def copies():
    return Copies("gvd")


def test_an_open_card_holds_command_cell_and_hash(copies):
    settings = {"strength": 0.75, "prompt": "a red star"}
    copies.fill(settings, CLIPS)
    opened(copies)
    told = explore.record("gvd", settings, CLIPS)
    assert copies.command.words == "vidistill explore gvd -p 'prompt=a red star' -p strength=0.75"
    assert "strength: float = 0.75  # pull" in copies.cell.words
    assert f'<code title="{told["hash"]}">{told["hash"][:12]}</code>' in copies._told.object
    assert "guided &lt;1&gt;" in copies._told.object
    assert 'role="status"' in copies._told.object
    assert copies.command.visible
    assert copies.cell.visible


def test_an_open_card_follows_the_page(copies):
    copies.fill({"seed": 1}, CLIPS)
    opened(copies)
    before = copies._told.object
    copies.fill({"seed": 2}, CLIPS)
    assert copies.command.words.endswith("-p seed=2")
    assert copies._told.object != before


def test_a_closed_card_makes_nothing(copies, monkeypatch):
    monkeypatch.setattr(explore, "record", lambda *arguments: pytest.fail("hashed for nobody"))
    copies.fill({"seed": 1}, CLIPS)
    assert copies.command.words == copies.cell.words == ""
    assert not copies.command.visible


def test_settings_that_the_page_does_not_have_are_one_line_and_the_next_ones_are_shown(copies):
    copies.fill({"strenght": 1.0}, CLIPS)
    opened(copies)
    assert 'role="alert"' in copies._told.object
    assert "did you mean &#x27;strength&#x27;" in copies._told.object
    assert not copies.command.visible
    copies.fill({"strength": 1.0}, CLIPS)
    assert copies.command.visible
    assert copies.command.words.endswith("-p strength=1.0")


def test_every_box_says_what_it_is(copies):
    labels = [box.what for box in copies.card.select(lambda part: hasattr(part, "what"))]
    assert len(labels) == len(set(labels)) == 2
    assert all(labels)
    assert isinstance(copies.__panel__(), pn.Card)
