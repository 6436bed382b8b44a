"""The desk against a page of one knob: what is remembered, when a turn runs, what a recall sets, draws and leaves alone."""

import asyncio
from dataclasses import dataclass
from functools import cache, partial

import pages
import panel as pn
import pytest
import torch

from vidistill.knobs import Knob, Knobs
from vidistill.lab.steps import Step
from vidistill.widgets.desk import Desk
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.run_bar import RunBar

play = partial(pages.play, seconds=5)


@dataclass(frozen=True)
class Look:
    """A clip as grey as beta, and a black one."""

    beta: float
    whole: bool

    @property
    def clips(self):
        return clips(self.beta)


@cache
def clips(beta):
    return {"black": torch.zeros(3, 2, 8, 8, dtype=torch.uint8), "grey": torch.full((3, 2, 8, 8), round(100 * beta)).byte()}


class FakePage:
    """A page over a session that counts its runs; a look comes twice, the fuller one last."""

    name = "fake"
    knobs = Knobs("fake", Knob("beta", 0.5, "a weight", low=0, high=1, step=0.1))

    def __init__(self):
        self.bar, self.panel = RunBar(), KnobPanel(self.knobs)
        self.sampled, self.drawn = [], []
        self.desk = Desk(self)
        self.present(Look(0.5, True), self.asked())
        self.panel.param.watch(self._turned, ["values", "seed"])

    def asked(self):
        return self.panel.values | {"seed": self.panel.seed}

    def steps(self, settings, previews=True):
        self.sampled.append(dict(settings))
        yield Step("sample", 1, 1, Look(settings["beta"], False))
        yield Step("look closer", 1, 1, Look(settings["beta"], True))

    async def run(self, *events):
        await self.desk.run()

    def present(self, result, settings):
        self.drawn.append(result)
        self.desk.remember(result, settings)

    def recall(self, settings, look):
        with self.desk.recalled(settings, look):
            self.panel.set({"beta": settings["beta"]})
            self.panel.seed = settings["seed"]
            self.drawn.append(look)

    def clip(self, look):
        return look.clips["grey"]

    def clips(self, look):
        return look.clips

    def numbers(self, look):
        return {"beta": look.beta, "seconds": 2.5}

    def forming(self, look):
        return None

    async def _turned(self, *events):
        await self.desk.follow()


@pytest.fixture
def page():
    return FakePage()


def entries(page):
    return page.desk.runs.history.entries


def pair(page):
    return page.desk.runs.compare.a.value, page.desk.runs.compare.b.value


async def later():
    for _ in range(20):
        await asyncio.sleep(0.01)


def test_a_run_is_one_entry_and_keeps_its_fullest_look(page):
    play(page, lambda: page.panel.set({"beta": 0.7}))
    assert [entry.words for entry in entries(page)] == ["the first", "beta 0.5 → 0.7"]
    assert entries(page)[1].record == Look(0.7, True)
    assert entries(page)[1].settings == {"beta": 0.7, "seed": 0}
    assert entries(page)[1].seconds == 2.5
    assert pair(page) == ("run 1", "run 2")
    assert page.desk.runs.compare.a.options == ["black of run 2", "run 1", "run 2"]


def test_only_what_is_new_is_run(page):
    play(page, page.desk.follow, lambda: page.panel.param.trigger("values"))
    assert page.sampled == []
    play(page, lambda: page.panel.set({"beta": 0.6}), page.desk.follow)
    assert page.sampled == [{"beta": 0.6, "seed": 0}]
    play(page, page.run)  # asked for by name, the same is made again, and is the same run
    assert len(page.sampled) == 2
    assert len(entries(page)) == 2


def test_a_recall_sets_and_draws_and_samples_nothing(page):
    first = entries(page)[0].record
    play(page, lambda: page.panel.set({"beta": 0.7}), lambda: setattr(page.panel, "seed", 4))
    sampled = list(page.sampled)

    async def recalled():
        page.desk.runs.history._cards[1].show.clicks += 1
        assert not page.desk.recalling
        await later()

    asyncio.run(recalled())
    assert page.sampled == sampled
    assert page.drawn[-1] is first
    assert (page.panel.values, page.panel.seed, page.panel.controls["beta"].value) == ({"beta": 0.5}, 0, 0.5)
    assert page.desk.runs.history.shown == 1
    assert len(entries(page)) == 3
    assert "black of run 1" in page.desk.runs.compare.a.options  # what is offered beside the runs is the shown run's
    play(page, lambda: page.panel.set({"beta": 0.2}))
    assert entries(page)[-1].words == "from run 1: beta 0.5 → 0.2"
    assert pair(page) == ("run 1", "run 4")


def test_a_recall_ends_the_run_under_way(page):
    async def recalled():
        page.panel.set({"beta": 0.9})
        page.recall(entries(page)[0].settings, entries(page)[0].record)
        await later()
        run = asyncio.create_task(page.run())
        await asyncio.sleep(0)
        page.recall(entries(page)[0].settings, entries(page)[0].record)
        assert not page.bar.running
        await run
        await later()

    asyncio.run(recalled())
    assert page.sampled == []
    assert page.panel.values == {"beta": 0.5}
    assert len(entries(page)) == 1


def test_what_comes_from_elsewhere_is_a_run_when_it_is_recalled(page):
    page.recall({"beta": 0.3, "seed": 9}, Look(0.3, True))  # as of a grid's cell
    assert [entry.words for entry in entries(page)] == ["the first", "beta 0.5 → 0.3, seed 0 → 9"]
    assert page.sampled == []
    assert page.asked() == {"beta": 0.3, "seed": 9}
    assert pair(page) == ("run 1", "run 2")


def test_a_recall_that_fails_leaves_the_page_alive(page):
    with pytest.raises(KeyError):
        page.recall({}, Look(0.3, True))
    assert not page.desk.recalling
    assert len(entries(page)) == 1
    play(page, lambda: page.panel.set({"beta": 0.8}))
    assert page.sampled == [{"beta": 0.8, "seed": 0}]


def test_controls_that_follow_a_look_start_no_run(page):
    play(page, lambda: page.panel.set({"beta": 0.6}))

    async def follow_the_look():
        page.panel.set({"beta": 0.4})
        page.desk.remember(Look(0.4, True), {"beta": 0.4, "seed": 0})
        await later()

    asyncio.run(follow_the_look())
    assert page.sampled == [{"beta": 0.6, "seed": 0}]


def test_its_keys_are_the_page_s(page):
    play(page, lambda: page.panel.set({"beta": 0.7}))
    page.desk.keys.press("[")
    assert page.drawn[-1] == Look(0.5, True)
    page.desk.keys.press("s")
    assert page.panel.dice_button.disabled


def test_it_is_laid_out_as_cards(page):
    shown = page.desk.__panel__()
    titles = [pane.object for pane in shown.select(pn.pane.HTML) if "<h2" in str(pane.object)]
    assert ["Runs" in titles[0], "Compare two clips" in titles[1]] == [True, True]
