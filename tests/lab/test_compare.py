"""Swipe and blink show nothing but the two clips' own pixels, and a difference is what its words say."""

import pytest
import torch

from vidistill.errors import InputError
from vidistill.lab.compare import CIVIDIS, SCALES, blinked, changed, difference, swiped


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randint(0, 256, (3, 6, 8, 10), generator=g, dtype=torch.uint8) for _ in range(2))


def test_a_swipe_is_a_on_the_left_and_b_on_the_right(pair):
    a, b = pair
    assert torch.equal(swiped(a, b, 0.0), b)
    assert torch.equal(swiped(a, b, 1.0), a)
    half = swiped(a, b, 0.3)
    assert torch.equal(half[..., :3], a[..., :3])
    assert torch.equal(half[..., 3:], b[..., 3:])
    assert torch.equal(swiped(a, b, 7.0), a)
    assert torch.equal(swiped(a, a, 0.5), a)


@pytest.mark.parametrize("hold", [1, 2, 4, 6, 50])
def test_a_blink_shows_every_frame_of_both_once(pair, hold):
    a, b = pair
    clip, names = blinked(a, b, hold)
    assert clip.shape == (3, 12, 8, 10)
    for n, name in enumerate(names):
        assert torch.equal(clip[:, n], (a if name == "A" else b)[:, n % 6])
    assert sorted((name, n % 6) for n, name in enumerate(names)) == [(name, t) for name in "AB" for t in range(6)]
    assert names[:hold] == ["A"] * min(hold, 6) + names[6:hold]


def test_a_difference_in_closed_form():
    a = torch.zeros(3, 4, 2, 2, dtype=torch.uint8)
    b = a.clone()
    b[1, 2, 0, 0] = 40  # one colour of one pixel of the third frame
    found = difference(b, a)
    assert (found.most, found.scale) == (40, 4)  # 8 would be 320
    assert found.mean == pytest.approx(40 / 48)
    assert found.frames == pytest.approx([0, 0, 40 / 12, 0])
    assert "in frame 3" in found.told()
    assert "times 4" in found.told()
    assert "and more" not in found.told()
    assert found.picture[:, 0, 0, 0].tolist() == list(CIVIDIS[0])
    assert found.picture[:, 2, 0, 0].tolist() != list(CIVIDIS[0])
    assert torch.equal(difference(a, b).picture, found.picture)  # |A - B| = |B - A|


def test_a_scale_that_hides_says_so():
    a = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    found = difference(a, a + 40, scale=16)
    assert found.picture[:, 0, 0, 0].tolist() == list(CIVIDIS[-1])
    assert "yellow is 16 levels and more" in found.told()


@pytest.mark.parametrize("most", [1, 15, 16, 127, 128, 255])
def test_the_scale_hides_nothing_and_wastes_little(most):
    a = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    found = difference(a, a + most)
    assert most * found.scale <= 255
    assert found.scale == SCALES[-1] or most * found.scale * 2 > 255


def test_the_same_clip_has_no_difference(pair):
    found = difference(pair[0], pair[0])
    assert (found.mean, found.most, found.scale) == (0, 0, 1)
    assert "pixel by pixel" in found.told()


def test_the_map_grows_lighter_all_the_way():
    a = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    b = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(3, 1, 16, 16)
    light = (torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None, None] * difference(a, b, scale=1).picture).sum(0).flatten()
    assert (light.diff() >= -0.5).all()
    assert light[-1] > light[0] + 150


@pytest.mark.parametrize("make", [lambda a, b: swiped(a, b, 0.5), lambda a, b: blinked(a, b, 2), difference])
def test_two_sizes_are_refused_in_words(pair, make):
    with pytest.raises(InputError, match=r"A has 6 frames of 8 x 10, B has 4 frames of 8 x 10"):
        make(pair[0], pair[1][:, :4])


def test_what_changed_between_two_settings_is_said_in_words():
    before, now = {"beta": 0.2, "t_map": "snr_matched", "old": 1}, {"beta": 0.30000000000000004, "t_map": "snr_matched", "new": "x"}
    assert changed(before, now) == ["beta 0.2 → 0.3", "new none → x", "old 1 → none"]
    assert changed(now, now) == []
    assert changed({"prompt": "a red star " * 4}, {"prompt": "a blue star"}) == ["prompt now: a blue star"]
    assert changed({"sampling_steps": 0}, {"sampling_steps": 20}) == ["sampling steps 0 → 20"]
