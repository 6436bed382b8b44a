"""A sweep runs each setting, compares it with one of them by seed, and judges by the interval alone."""

import pytest

from vidistill.errors import InputError
from vidistill.lab.sweep import sweep, sweep_table, verdict, verdict_table
from vidistill.measure import interval
from vidistill.types import Report, Score

VALUES = {"0": [10.0, 20.0, 30.0], "1": [11.0, 21.0, 31.5], "2": [1.0, 50.0, 20.0]}


def run(values, videos, out, *, seed, calls):
    calls.append((values, videos, out, seed))
    arm = {
        "name": values["arms"],
        "score": interval(VALUES[values["lambda"]]),
        "clips": 3,
        "pace": interval([1.0, 2.0, 3.0]),
        "hits": None,
    }
    return Report("toy", values, {}, [{"name": "other", "score": interval([0.0])}, arm], [], {}, Score("a", "top-1 %", "other", ""))


def rows(calls, **options):
    settings = {f"lambda {text}": {"lambda": text} for text in VALUES}
    return sweep(run, {"steps": 4, "lambda": "9"}, "videos", "out", settings, "lambda 0", seed=7, calls=calls, **options)


def test_each_setting_is_run_and_paired() -> None:
    calls: list = []
    found = rows(calls)
    assert [(values["lambda"], values["steps"], values["arms"], seed) for values, _, _, seed in calls] == [
        (text, 4, "method", 7) for text in VALUES
    ]
    assert [row["setting"] for row in found] == ["lambda 0", "lambda 1", "lambda 2"]
    assert found[0]["difference"] is None
    assert found[1]["difference"]["verdict"] == "higher"
    assert found[2]["difference"]["verdict"] == "cannot tell"
    assert rows([], arm="random")[0]["score"]["mean"] == 20
    table = sweep_table(found, "lambda 0").splitlines()
    assert table[0] == "| setting | top-1 % [95 %] | against lambda 0 | motion % |"
    assert table[3].startswith("| lambda 1 | 21.2 [")
    assert "| +1.2 [" in table[3]


def test_an_unknown_reference_is_named() -> None:
    with pytest.raises(InputError, match="lambda 0"):
        sweep(run, {}, "", "", {"lambda 0": {}}, "lambda o", seed=0, calls=[])


def test_verdicts_come_from_the_interval() -> None:
    low, high, wide = (interval(VALUES[text]) for text in "012")
    names = ("a", "b")
    assert verdict("up", high, low, names=names)["verdict"] == "direction holds"
    assert verdict("up", low, high, names=names)["verdict"] == "direction does not hold"
    assert verdict("down", low, high, names=names, wanted="lower")["verdict"] == "direction holds"
    assert verdict("up", wide, low, names=names)["verdict"] == "cannot tell"
    assert "| up | a | b | +1.2 [" in verdict_table([verdict("up", high, low, names=names)])
