import pytest

from vidistill.errors import Cancelled, InputError
from vidistill.measure.trials import pick_arms, run_trials, summarise


def test_the_method_and_its_control_are_always_there():
    arms = {"method": 0, "random": 0, "svd": 0}
    assert pick_arms("svd", arms, always=("method", "random")) == ["method", "random", "svd"]
    assert pick_arms("all", arms, always=("random",)) == ["random", "method", "svd"]
    with pytest.raises(InputError, match="did you mean 'random'"):
        pick_arms("randon, svd", arms, always=())


def test_each_trial_runs_once_and_equal_keys_share(tmp_path):
    calls = []

    def score(name, seed, alive):
        calls.append((name, seed))
        return {"top1": float(seed)}

    keys = {"a": "same", "b": "same", "c": "other"}
    first, notes = run_trials(score, keys, [0, 1], tmp_path)
    assert not notes
    assert calls == [("a", 0), ("a", 1), ("c", 0), ("c", 1)]
    assert first["a"] == first["b"] == [{"top1": 0.0}, {"top1": 1.0}]
    assert run_trials(score, keys, [0, 1], tmp_path) == (first, [])
    assert len(calls) == 4


def test_a_trial_that_was_cancelled_leaves_nothing_and_the_rest_stays(tmp_path):
    def score(name, seed, alive):
        alive("step", 1, 2)
        return {"top1": 1.0}

    ticks = []

    def stop_at_three(*tick):
        ticks.append(tick)
        if len(ticks) == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_trials(score, {"a": 0, "b": 1}, [0], tmp_path, stop_at_three)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_an_optional_arm_that_is_refused_is_left_out_with_the_reason(tmp_path):
    def score(name, seed, alive):
        if name == "svd":
            raise InputError("a budget of 5 bytes is too small")
        return {"top1": 1.0}

    table, notes = run_trials(score, {"a": 0, "svd": 1}, [0, 1], tmp_path, optional=("svd",))
    assert table == {"a": [{"top1": 1.0}, {"top1": 1.0}]}
    assert notes == ["svd: left out, a budget of 5 bytes is too small"]
    with pytest.raises(InputError, match="too small"):
        run_trials(score, {"svd": 1}, [0], tmp_path)


def test_differences_are_paired_by_seed():
    table = {"method": [{"top1": 3.0}, {"top1": 5.0}, {"top1": 7.0}], "random": [{"top1": 2.0}, {"top1": 4.0}, {"top1": 6.0}]}
    method, random = summarise(table, control="random", metric="top1")
    assert method["difference"]["mean"] == pytest.approx(1.0)
    assert method["difference"]["low"] == pytest.approx(1.0)  # the seeds differ, the differences do not
    assert method["score"]["low"] < 5 < method["score"]["high"]
    assert random["difference"]["mean"] == 0
