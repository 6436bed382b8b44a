"""Effects that add up have a share and a cosine of 1; clips with nothing in common have those of the closed form."""

import pytest
import torch

from vidistill.lab.additive import additive


def clips(count, cells=40_000):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 4, 1, 1, cells, generator=generator) for _ in range(count)]


def test_effects_that_are_added_add_up():
    x, a, b = clips(3)
    adds = additive([x, x], {"pull": [x, x + a], "teacher": [x, x + 2 * b]}, [x, x + a + 2 * b])
    assert (adds.share, adds.cosine) == pytest.approx((1, 1))
    assert (adds.shares[0], adds.cosines[0]) == (None, None)  # nothing was done yet
    assert (adds.shares[1], adds.cosines[1]) == (adds.share, adds.cosine)
    assert adds.effects == pytest.approx({"pull": 1, "teacher": 2}, rel=0.02)
    assert adds.whole == pytest.approx(adds.summed) == pytest.approx(5**0.5, rel=0.02)
    assert adds.pairs["pull and teacher"] == pytest.approx(0, abs=0.02)
    assert adds.told().startswith("They add up: 100% of the size")
    assert "most like the teacher alone, cosine 0.89" in adds.told()


@pytest.mark.parametrize("count", [2, 3])
def test_clips_with_nothing_in_common_have_the_numbers_of_the_closed_form(count):
    x, whole, *single = clips(2 + count)
    adds = additive([x], {f"operator {k}": [clip] for k, clip in enumerate(single)}, [whole])
    assert (adds.share, adds.cosine) == pytest.approx(adds.unrelated, abs=0.02)
    assert list(adds.pairs.values()) == pytest.approx([0.5] * len(adds.pairs), abs=0.02)
    assert len(adds.pairs) == count * (count - 1) // 2
    assert adds.told().startswith("Together they do less than their sum")


def test_verdicts():
    x, a, b = clips(3)

    def told(whole):
        return additive([x], {"pull": [x + a], "teacher": [x + b]}, [x + whole]).told()

    assert told(0.5 * (a + b)).startswith("Together they do less than their sum: 50%")
    assert told(2 * (a + b)).startswith("Together they do more than their sum: 200%")
    assert told(a - b).startswith("They do not add up: together they go another way")
    assert told(2**0.5 * a).startswith("Together they do as much as their sum, but not the same")
    assert told(0 * a) == "Nothing adds up: the effects cancel, or there are none."
    assert "most like the pull alone" in told(a + 0.5 * b)
