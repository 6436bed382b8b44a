"""Intervals against scipy and against their promise."""

import pytest
import torch

from vidistill.errors import InputError
from vidistill.measure import exact, interval, paired


def test_against_scipy():
    from scipy import stats

    values = [31.2, 35.0, 29.9, 33.3, 34.1]
    result = interval(values, 0.9)
    low, high = stats.t.interval(0.9, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert (result["low"], result["high"]) == (pytest.approx(low), pytest.approx(high))
    assert result["mean"] == pytest.approx(sum(values) / 5)
    assert (result["n"], result["values"]) == (5, values)


def test_two_values_by_hand():
    """t(0.975, 1) = 12.706; s = sqrt(2) for 1 and 3, so the half width is 12.706."""
    result = interval([1, 3])
    assert result["high"] - 2 == pytest.approx(12.7062, abs=1e-3)
    assert result["std"] == pytest.approx(2**0.5)


def test_one_value_has_no_interval():
    assert interval([4.0]) == {"mean": 4.0, "low": None, "high": None, "std": None, "n": 1, "values": [4.0]}
    assert paired([4.0], [1.0])["verdict"] == "cannot tell"


def test_a_computed_number_is_a_point_and_needs_no_seeds():
    assert exact(3) == {"mean": 3.0, "low": 3.0, "high": 3.0, "std": 0.0, "n": 1, "values": [3.0], "exact": True}
    assert exact(3).keys() - interval([3]).keys() == {"exact"}


def test_it_covers_the_true_mean_as_often_as_it_says():
    draws = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)).tolist()
    covered = sum(result["low"] <= 0 <= result["high"] for result in map(interval, draws)) / 400
    assert 0.92 < covered < 0.98


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([10, 21, 30.0], [9, 20, 29.1], "higher"),
        ([9, 20, 29.1], [10, 21, 30.0], "lower"),
        ([1, 2, 3.0], [3, 2, 1.0], "cannot tell"),
        ([5, 5, 5], [5, 5, 5], "cannot tell"),
        ([6, 6, 6], [5, 5, 5], "higher"),
    ],
)
def test_paired_verdicts(a, b, verdict):
    """Seeds that move both arms by 20 points do not hide a steady difference of one."""
    assert paired(a, b)["verdict"] == verdict


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: interval([]), "at least one value"),
        (lambda: interval([1, float("nan")]), "finite"),
        (lambda: interval([1, 2], level=95), "level=95"),
        (lambda: exact(float("inf")), "finite"),
        (lambda: paired([1, 2], [1]), "2 and 1 values"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(InputError, match=said):
        call()
