"""Worlds of points that learn: a page's run is the papers' arm, an untrained student is its teacher, failures are named by numbers."""

import json
from dataclasses import replace

import pytest
import torch

from vidistill.data.plane import quadrants
from vidistill.errors import InputError
from vidistill.lab.plane_session import (
    KNOBS,
    LONG,
    METHODS,
    NUMBERS,
    ODE,
    SDE,
    STUDENT,
    TRUTH,
    Look,
    PlaneSession,
    own_updates,
    point_alarms,
)
from vidistill.papers.dfd import KNOBS as DFD
from vidistill.papers.dfd import arm_of

FEW = {"world": "quadrants", "teaching": 40, "updates": 6}


pytestmark = pytest.mark.usefixtures("small_plane")


@pytest.fixture(scope="module")
def session(small_plane):
    return small_plane


def looks(steps):
    return [step.result for step in steps if step.result is not None]


def test_nothing_is_trained_before_it_is_asked_for(tmp_path):
    fresh = PlaneSession(tmp_path)
    first = fresh.opening(FEW)
    assert list(first.clouds) == [TRUTH]
    assert (first.tables, first.sharp, first.start) == ({}, None, None)
    assert not list(tmp_path.rglob("*.safetensors"))
    stages = [step.stage for step in fresh.steps(FEW | {"updates": 1})]
    assert stages[0] == "the teacher of quadrants, trained once and kept"
    again = [step.stage for step in PlaneSession(tmp_path).steps(FEW | {"updates": 1})]
    assert not any("trained once" in stage for stage in again)
    known = PlaneSession(tmp_path).opening(FEW)
    assert list(known.clouds) == [TRUTH, LONG, SDE, ODE]
    assert "weak teacher" in known.alarms  # forty steps are none


def test_points_move_from_the_untrained_teacher_on(session):
    seen = looks(session.steps(FEW | {"updates": 20, "cfg": 1}, name="mine"))
    assert seen[0].updates == 0
    assert torch.equal(seen[0].clouds[STUDENT], seen[0].clouds[SDE])  # before its first update a student is its unguided teacher
    updates = [look.updates for look in seen]
    assert updates[:5] == [0, 1, 2, 4, 5]
    assert updates[-2:] == [20, 20]  # the last one once more, now to go on from
    assert updates == sorted(updates)
    last = seen[-1]
    assert list(last.curve) == updates[:-1]
    assert last.curve[20] == {name: last.tables[STUDENT][name] for name in NUMBERS}
    assert not torch.equal(last.clouds[STUDENT], last.clouds[SDE])
    assert [look.start is None for look in seen] == [True] * (len(seen) - 1) + [False]
    assert (last.name, last.trained, last.used, last.start.updates) == ("mine", "sde", "sde", 20)
    assert json.loads(json.dumps(last.as_dict()))["world"] == "quadrants"


def test_a_branch_is_the_papers_arm_to_the_last_digit(session):
    checkpoint = session.last(FEW | {"method": "dmd"})
    branch = session.last(FEW | {"method": "dfd", "updates": 4, "p": 0.5}, start=checkpoint)
    ground = session._ground(session.settle(FEW), 0)
    paper = arm_of("dfd", DFD.resolve({"updates": 6, "branch": 4}), 2.0)
    theirs = ground.judged(paper, lambda *told: None)
    assert {name: branch.tables[STUDENT][name] for name in NUMBERS} == {name: theirs[name] for name in NUMBERS}
    assert branch.start.updates == theirs["updates"] == 10
    more = session.last(FEW | {"method": "dmd", "updates": 4}, start=checkpoint)
    assert not torch.equal(more.clouds[STUDENT], branch.clouds[STUDENT])
    repeated = session.last(FEW | {"method": "dfd", "updates": 4}, start=checkpoint)  # what a run goes on from is not changed by it
    assert torch.equal(repeated.clouds[STUDENT], branch.clouds[STUDENT])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(session, method):
    last = session.last(FEW | {"method": method, "updates": 8})
    assert (last.updates, last.total) == (8, 8)
    assert torch.isfinite(last.clouds[STUDENT]).all()
    assert not torch.equal(last.clouds[STUDENT], last.clouds[SDE if last.used == "sde" else ODE])
    assert last.used == last.trained == ("ode" if method in ("trajectory", "accvideo", "dp-dmd") else "sde")


def test_a_finished_student_is_sampled_by_another_rule_and_says_so(session):
    trained = session.last(FEW | {"method": "kd"})
    (step,) = session.again(trained, "ode")
    other = step.result
    assert (other.used, other.trained) == ("ode", "sde")
    assert not torch.equal(other.clouds[STUDENT], trained.clouds[STUDENT])
    assert "Euler's steps" in other.alarms["sampled against its training"]
    (step,) = session.again(other, "trained")
    assert torch.equal(step.result.clouds[STUDENT], trained.clouds[STUDENT])
    assert "sampled against its training" not in step.result.alarms
    asked = session.last(FEW | {"method": "kd", "rule": "ode"})  # or from the beginning
    assert torch.equal(asked.clouds[STUDENT], other.clouds[STUDENT])


def test_closing_stops_the_training_and_the_teachers(session, tmp_path):
    steps = session.steps(FEW | {"updates": 2000})
    while not isinstance((step := next(steps)).result, Look) or step.result.updates < 1:
        pass
    steps.close()
    assert list(steps) == []
    fresh = PlaneSession(tmp_path)
    steps = fresh.steps({"world": "ring-8", "method": "dmd"})
    assert "trained once" in next(steps).stage
    steps.close()
    assert list(fresh.opening({"world": "ring-8"}).clouds) == [TRUTH]  # and no half teacher is kept


def test_nothing_runs_on_bad_input(session):
    checkpoint = session.last(FEW)
    with pytest.raises(InputError, match="dfd-cfg1 leaves guidance out"):
        session.last({"world": "ring-8", "method": "dfd-cfg1"})
    with pytest.raises(InputError, match="run 1 cannot be gone on from"):
        session.last(FEW, seed=1, start=checkpoint)
    with pytest.raises(InputError, match="run 1 cannot be gone on from"):
        session.last(FEW, start=replace(checkpoint, start=None))
    with pytest.raises(InputError, match="only a finished student"):
        next(session.again(replace(checkpoint, start=None), "ode"))
    with pytest.raises(InputError, match="knob method='dfdd' is not allowed"):
        session.settle({"method": "dfdd"})


def test_zeros_are_the_papers_numbers(session):
    assert (own_updates("kd", False), own_updates("dmd", True), own_updates("dfd", True), own_updates("dfd", False)) == (
        1500,
        450,
        150,
        600,
    )
    settled = session.settle({"world": "ring-8"})
    assert (settled["updates"], settled["teaching"], settled["cfg"]) == (450, 4000, 1.0)
    assert session.settle({"world": "quadrants", "cfg": 3})["cfg"] == 3
    assert "motion-world" not in KNOBS["world"].choices


def numbers(**changed):
    calm = {"coverage": 100.0, "precision": 95.0, "radius": 100.0, "diversity": 100.0, "within": 100.0, "kl": 0.0, "leakage": 0.0}
    return calm | {"misleads": False} | changed


@pytest.mark.parametrize(
    ("table", "alarm", "said"),
    [
        ({"coverage": 75.0, "diversity": 120.0, "misleads": True}, "diversity misleads", "4 of 16 modes"),
        ({"coverage": 87.5, "diversity": 90.0}, "modes missing", "2 of 16"),
        ({"radius": 127.0}, "saturated", "127 %"),
        ({"leakage": 12.0}, "another class", "12 %"),
        ({"precision": 60.0, "coverage": 60.0}, "no better than untrained", "70 %"),
        ({}, None, ""),
    ],
)
def test_failures_are_named_by_their_numbers(table, alarm, said):
    tables = {LONG: numbers(), SDE: numbers(precision=70.0, coverage=70.0), ODE: numbers(precision=99.0), STUDENT: numbers(**table)}
    look = Look("run 1", quadrants(), {"cfg": 2.0}, 0, None, {}, tables, 97.0, updates=9, total=9, trained="sde", used="sde")
    found = point_alarms(look)
    if alarm is None:
        assert found == {}
    else:
        assert said in found[alarm]
        assert found.keys() - {"modes missing"} == {alarm} - {"modes missing"}
    assert "weak teacher" in point_alarms(replace(look, sharp=50.0))
