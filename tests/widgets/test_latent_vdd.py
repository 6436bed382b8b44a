"""The page of latent distillation: a turn shows what the bench made, a recall computes nothing, also across two data sets."""

import asyncio
from functools import partial

import pages
import pytest

from vidistill.lab.presets import knobs_of, load_presets
from vidistill.lab.session import Session
from vidistill.widgets.latent_vdd import FOLDER, SHOWN, WORLD, LatentVddBench

KNOBS = knobs_of("latent_vdd")
START = {"instances": 2, "rank_ratio": 0.5}
PLACE = ("films", "folder")
play = partial(pages.play, seconds=30)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield [Session.world(per_class=count, motions=("slide", "orbit"), seed=count) for count in (4, 3)]


@pytest.fixture
def bench(sessions):
    return LatentVddBench(sessions[0], KNOBS, load_presets("latent_vdd"), START, 3)


@pytest.fixture
def folder(bench, sessions, monkeypatch):
    """The page with a folder opened, which is the smaller world."""
    monkeypatch.setattr(Session, "folder", lambda *place, progress: sessions[1])
    bench.source.value, bench.path.value, bench.layout.value = FOLDER, *PLACE
    play(bench, lambda: setattr(bench.open_button, "clicks", 1))
    return bench


def entries(bench):
    return bench.desk.runs.history.entries


def test_the_first_state_teaches_untouched(bench, sessions):
    look = sessions[0].look(bench.panel.values, seed=3)
    assert bench.asked() == {name: look.values[name] for name in SHOWN} | {"seed": 3, "clip": look.clip}
    assert bench.player._names == ["original", "codec alone", "distilled"]
    assert [entry.words for entry in entries(bench)] == ["the first"]
    assert entries(bench)[0].clip.equal(look.clips["distilled"])
    assert bench.desk.runs.compare.a.value == "original of run 1"
    assert "r" not in bench.desk.keys._ear.heard  # there is no run button
    bench.__panel__()


def test_a_turn_shows_what_the_bench_makes_and_is_one_run(bench, sessions):
    play(bench, lambda: bench.panel.set({"rank_ratio": 0.25}))
    made = sessions[0].look(KNOBS.resolve(START | {"rank_ratio": 0.25}), seed=3)
    assert bench.bar.failed == ""
    assert f"{made.psnr['distilled']:.1f} dB" in bench._numbers.object
    assert [entry.words for entry in entries(bench)] == ["the first", "rank ratio 0.5 → 0.25"]
    assert entries(bench)[1].record.curves
    assert entries(bench)[1].seconds is None
    assert (bench.clip(made), bench.numbers(made)["PSNR"]) == (made.clips["distilled"], made.psnr["distilled"])


def test_a_run_without_previews_ends_before_the_curves(bench):
    *_, last = bench.steps(bench.asked(), previews=False)
    assert last.result.clips["distilled"].equal(entries(bench)[0].clip)
    assert not last.result.curves


def test_the_list_of_clips_follows_the_choice_without_another_run(bench, sessions):
    chosen = entries(bench)[0].record.chosen.tolist()
    play(bench, lambda: setattr(bench.picked, "value", chosen[-1]), lambda: bench.panel.set({"selector": "random"}))
    shown = entries(bench)[-1].record
    assert bench.asked()["clip"] == bench.picked.value == shown.clip == entries(bench)[-1].settings["clip"]
    assert list(bench.picked.options.values()) == sorted(shown.chosen.tolist())
    count = len(entries(bench))
    play(bench, bench.desk.follow)
    assert (count, len(entries(bench))) == (3, 3)


def test_an_earlier_run_is_recalled_and_nothing_is_computed(bench, sessions):
    first, look = bench.asked(), entries(bench)[0].record
    other = look.chosen.tolist()[-1]
    play(
        bench,
        lambda: bench.panel.set({"codec_dtype": "fp16"}),  # the same bytes of cores and the same error, other pixels
        lambda: bench.panel.set({"selector": "random", "basis": "class"}),
        lambda: setattr(bench.panel, "seed", 4),
        lambda: setattr(bench.picked, "value", bench.picked.values[-1]),
    )
    film, asked = bench.player._screen.object, bench.asked()
    assert other in look.chosen
    assert pages.recall(bench, sessions[0], 1) == []
    assert bench._look is look
    assert bench.asked() == first
    assert bench.picked.value == look.clip
    assert bench.player._screen.object != film
    film = bench.player._screen.object
    assert pages.recall(bench, sessions[0], 2) == []
    assert bench.player._screen.object != film
    assert bench.panel.values["codec_dtype"] == "fp16"
    assert pages.recall(bench, sessions[0], len(entries(bench))) == []
    assert bench.asked() == asked


def test_a_folder_is_named_in_the_settings_and_comes_back_with_its_runs(folder, sessions):
    bench = folder
    assert (bench.bar.failed, bench._session) == ("", sessions[1])
    assert (bench.asked()["folder"], bench.asked()["layout"]) == PLACE
    assert bench.panel.controls["instances"].end == 3
    play(bench, lambda: bench.panel.set({"instances": 3}))
    assert entries(bench)[-1].words == "instances 2 → 3"
    assert pages.recall(bench, sessions[0], 1) == []
    assert (bench._session, bench.source.value, bench.path.visible) == (sessions[0], WORLD, False)
    assert "folder" not in bench.asked()
    assert "8 clips" in bench._data.object
    assert pages.recall(bench, sessions[1], len(entries(bench))) == []
    assert (bench._session, bench.source.value, bench.panel.values["instances"]) == (sessions[1], FOLDER, 3)
    assert "6 clips" in bench._data.object


def test_the_world_comes_back_when_it_is_chosen(folder, sessions):
    async def chosen():
        folder.source.value = WORLD
        await asyncio.sleep(0.3)

    asyncio.run(chosen())
    assert folder._session is sessions[0]
    assert folder.desk.runs.history.shown == 1
    assert not folder.bar.running
