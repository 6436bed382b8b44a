"""The cost of a clip, measured: the sampler is called with what the tables say."""

import pytest

from vidistill.lab import cost
from vidistill.lab.cost import sampling_cost


def test_costs_of_batches_and_counts(tiny_dit) -> None:
    found = sampling_cost(str(tiny_dit), batches=[1, 2, 4], counts=(1, 2), steps=2)
    assert list(found["by_batch"]) == [1, 2, 4]
    assert list(found["by_count"]) == [4, 8]
    assert all(seconds > 0 for table in ("by_batch", "by_count") for seconds in found[table].values())
    assert [row[0] for row in found["rows"]] == ["1", "2", "4"]
    assert found["rows"][2][3:] == ["", ""]
    assert found["spread"] >= 1


def test_what_it_says_follows_the_clock(tiny_dit, monkeypatch) -> None:
    def timed(call, *arguments, **options):
        size = arguments[0] if isinstance(arguments[0], int) else len(arguments[1])
        return 0.1 + 0.5 * size

    monkeypatch.setattr(cost, "_timed", timed)
    found = sampling_cost(str(tiny_dit), batches=[1, 2, 4], counts=(1, 4), steps=1)
    assert found["linear"] == pytest.approx(1)
    assert found["by_batch"][4] == pytest.approx(2.1)
    assert found["spread"] == pytest.approx((2.1 / 4) / (8.1 / 16))
    assert "100.0%" in found["says"]
