"""Compare shows the bench's pixels in four ways on one clock, says how far two clips are apart, and keeps the user's choice of the two."""

import io

import numpy as np
import pytest
import torch

from vidistill.lab.compare import BLINK, DIFFERENCE, MODES, SIDES, SWIPE, difference, swiped
from vidistill.widgets.compare import FPS, RATES, Compare, blink_film, static_views, swipe_film
from vidistill.widgets.player import GAP, SCALE, film
from vidistill.widgets.strip import EDGE


@pytest.fixture
def clips():
    g = torch.Generator().manual_seed(1)
    return {name: torch.randint(0, 256, (3, 6, 16, 16), generator=g, dtype=torch.uint8) for name in ("one", "two", "three")}


@pytest.fixture
def compare(clips):
    view = Compare()
    view.offer(clips, {"one": {"beta": 0.2, "seed": 3}, "two": {"beta": 0.4, "seed": 3}}, a="one", b="two")
    return view


def shown(view):
    return view.player._screen.object


def test_nothing_to_compare_is_said_and_not_drawn():
    view = Compare("Make a second run.")
    assert not view._stage.visible
    assert "Make a second run." in view._told.object


def test_it_begins_stopped_with_the_difference_in_words(compare, clips):
    found = difference(clips["one"], clips["two"])
    assert (compare.mode.value, compare.player.playing) == (DIFFERENCE, False)
    assert compare.player._names == ["A: one", "B: two", f"|A - B| x {found.scale}"]
    assert np.array_equal(compare.player._frames[:, :, -SCALE * 16 :], film({"": found.picture}))
    assert found.told() in compare._told.object
    assert "From A to B: beta 0.2 → 0.4." in compare._told.object
    assert "linear-gradient" in compare._key.object
    assert "<img" in shown(compare)
    assert "A, one, and B, two, in step" in shown(compare)


def test_side_by_side_is_one_film(compare, clips):
    compare.mode.value = SIDES
    assert np.array_equal(compare.player._frames, film({"one": clips["one"], "two": clips["two"]}))
    assert compare.player._frames.shape == (6, 32, 64 + GAP, 3)
    compare.player._toggle.clicks += 1
    assert "<video" in shown(compare)


def test_a_swipe_follows_its_border(compare, clips):
    compare.mode.value = SWIPE
    assert compare.split.visible
    assert not compare.scale.visible
    before = shown(compare)
    compare.split.value = 25
    assert shown(compare) != before
    assert "border at 25 %" in shown(compare)
    frames, plain = swipe_film(clips["one"], clips["two"], 0.25), film({"": swiped(clips["one"], clips["two"], 0.25)})
    assert np.array_equal(compare.player._frames, frames)
    assert np.array_equal(np.delete(frames, [7, 8], axis=2), np.delete(plain, [7, 8], axis=2))
    assert (frames[:, :, 7] == 0).all()
    assert (frames[:, :, 8] == 255).all()
    assert np.array_equal(swipe_film(clips["one"], clips["two"], 1.0), film({"": clips["one"]}))


def test_a_playing_swipe_is_made_anew_when_the_border_is_let_go(compare):
    import param

    compare.mode.value = SWIPE
    compare.player.playing = True
    before = shown(compare)
    compare.split.value = 10
    assert shown(compare) == before
    with param.edit_constant(compare.split):
        compare.split.value_throttled = 10
    assert shown(compare) != before


@pytest.mark.parametrize("rate", RATES)
def test_a_blink_names_who_is_seen_and_goes_on_while_time_stands_still(clips, rate):
    frames, stops = blink_film(clips["one"], clips["two"], rate)
    plain = {name: film({"": clips[name]}) for name in ("one", "two")}
    assert frames.shape == (12, 32 + 22, 32, 3)
    assert np.array_equal(frames[0, :32], plain["one"][0])
    assert np.array_equal(frames[6, :32], plain["two"][0])
    assert not np.array_equal(frames[0, 32:], frames[6, 32:])  # the letters
    assert len(stops) == 6
    hold = FPS // rate
    assert len(stops[4]) == 2 * hold
    assert np.array_equal(stops[4][0, :32], plain["one"][4])
    assert np.array_equal(stops[4][hold, :32], plain["two"][4])
    assert rate / 2 < 3  # flashes a second


def test_a_blink_is_a_film_even_when_stopped(compare):
    compare.mode.value = BLINK
    assert "<video" in shown(compare)
    assert not compare.player.playing
    assert compare.player._slider.end == 5
    slow = shown(compare)
    compare.rate.value = 4
    assert shown(compare) != slow


def test_the_scale_can_be_chosen(compare):
    compare.scale.value = 16
    assert compare.player._names[2] == "|A - B| x 16"
    assert "and more" in compare._told.object
    assert "levels" in compare._key.object


def test_what_is_offered_moves_on_and_what_was_picked_stays(compare, clips):
    more = clips | {"four": clips["one"]}
    compare.offer(more, a="two", b="four")
    assert (compare.a.value, compare.b.value) == ("two", "four")
    compare.a.value = "one"
    compare.offer(more, a="three", b="three")
    assert (compare.a.value, compare.b.value) == ("one", "three")
    assert "From A to B" not in compare._told.object  # nobody said how they were made
    compare.offer({"three": clips["three"]}, a="three", b="three")
    assert (compare.a.value, compare.b.value) == ("three", "three")
    assert "pixel by pixel" in compare._told.object


def test_two_sizes_are_an_alert_and_not_an_error(compare, clips):
    compare.offer(clips | {"small": clips["one"][:, :2]}, a="one", b="small")
    assert 'role="alert"' in compare._told.object
    assert "B has 2 frames" in compare._told.object
    assert not compare._stage.visible
    compare.b.value = "three"
    assert compare._stage.visible


def test_the_next_mode_goes_round(compare):
    seen = []
    for _ in MODES:
        compare.next_mode()
        seen.append(compare.mode.value)
    assert seen == [*MODES[1:], MODES[0]]


def test_static_twins(clips):
    from PIL import Image

    found = difference(clips["one"], clips["two"])
    words, strip = static_views(clips["one"], clips["two"], ("run 1", "run 2"))
    assert f"A is run 1, B is run 2. {found.told()}" in words.data
    assert found.told() in strip.alt
    assert "|A - B|" in strip.alt
    picture = np.asarray(Image.open(io.BytesIO(strip.data)))
    side = SCALE * 16
    frames = film({"": found.picture})
    for k in (0, 5):  # the first frame and the last, to the pixel
        x = picture.shape[1] - (6 - k) * (side + EDGE)
        assert np.array_equal(picture[-side - EDGE : -EDGE, x : x + side], frames[k])
    assert len(strip.data) < 100_000


def test_it_is_laid_out(compare):
    compare.__panel__()
