"""Few steps without a screen: clips are the sampler's own, each is sampled once, a wrong rule is named, one clock shows them in step."""

import json

import pytest
import torch

from vidistill import shipped, zoo
from vidistill.errors import InputError
from vidistill.lab.few_step_session import (
    ANEW,
    EULER,
    KNOBS,
    TEACHER,
    Clips,
    FewStepSession,
    clip_alarms,
    clock,
    few_step_models,
    times_of,
)
from vidistill.lab.previews import Preview
from vidistill.sample import generate, sample

PROMPT = "a red star orbiting over a navy background"
SMALL = {"steps": 6, "guidance": 2.0}


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_students):
    return FewStepSession(tiny_students, teacher=f"dit={tiny_dit}")


@pytest.fixture(scope="module")
def found(session):
    return session.look(PROMPT, SMALL, seed=5)


def test_clips_are_the_samplers_own(found, tiny_dit, tiny_students):
    teacher = zoo.load(tiny_dit)

    def decoded(model, **how):
        *_, last = sample(model, [PROMPT], seeds=[5], **how)
        return model.codec.decode(last.latents, 16)[0]

    assert list(found.takes) == [TEACHER, "anew", "euler", EULER, ANEW]
    assert torch.equal(found.clips[TEACHER], decoded(teacher, steps=6, guidance=2.0))
    assert torch.equal(found.clips[EULER], decoded(teacher, steps=4, guidance=2.0))
    assert torch.equal(found.clips[ANEW], decoded(teacher, steps=4, guidance=2.0, renoise=True))
    for name, folder in tiny_students.items():
        model = zoo.load(folder)
        own = model.codec.decode(generate(model, [PROMPT], seeds=[5]), 16)[0]
        assert torch.equal(found.clips[name], own)
    assert [take.evaluations for take in found.takes.values()] == [12, 4, 4, 8, 8]
    assert found.rules == {TEACHER: "ode", "anew": "sde", "euler": "ode", EULER: "ode", ANEW: "sde"}
    assert found.numbers["saturation"][TEACHER] == found.numbers["contrast"][TEACHER] == found.numbers["faster"][TEACHER] == 1
    for name, take in found.takes.items():
        assert found.numbers["faster"][name] == pytest.approx(found.takes[TEACHER].seconds / take.seconds)
    assert json.loads(json.dumps(found.as_dict()))["takes"]["anew"]["steps"] == 4


def test_students_come_first_and_nothing_is_sampled_twice(session, found):
    steps = list(session.steps(PROMPT, SMALL | {"steps": 5}, seed=5))
    looks = [step.result for step in steps if isinstance(step.result, Clips)]
    assert [len(look.takes) for look in looks] == [1, 2, 3, 4, 5]
    assert list(looks[0].takes) == ["anew"]
    assert TEACHER not in looks[3].takes
    assert [look.whole for look in looks] == [False] * 4 + [True]
    assert looks[0].numbers["contrast"]["anew"] is None  # over what is not there yet
    assert looks[-1].remembered == ("anew", "euler", EULER, ANEW)  # only the teacher's steps were turned
    assert {step.result.name for step in steps if isinstance(step.result, Preview)} <= {TEACHER}
    assert looks[-1].takes["anew"].seconds == found.takes["anew"].seconds


def test_another_rule_than_the_training_is_sampled_and_named(session, found, tiny_students):
    for rule, wrong in (("ode", "anew"), ("sde", "euler")):
        other = session.look(PROMPT, SMALL | {"renoise": rule}, seed=5)
        model = zoo.load(tiny_students[wrong])
        *_, last = sample(model, [PROMPT], seeds=[5], renoise=rule == "sde")
        assert torch.equal(other.clips[wrong], model.codec.decode(last.latents, 16)[0])
        assert not torch.equal(other.clips[wrong], found.clips[wrong])
        own = "sde" if wrong == "anew" else "ode"
        assert other.alarms["sampled against its training"].startswith(f"{wrong} ({own}) learned another rule")  # and no other student
    assert "sampled against its training" not in found.alarms


def test_failures_are_named_by_their_numbers(found):
    from dataclasses import replace

    own = {"anew": "sde", "euler": "ode"}
    numbers = {what: dict.fromkeys(found.takes, 1.0) for what in ("saturation", "contrast", "faster", "motion")}
    numbers["drift"] = dict.fromkeys(found.takes, 0.1)
    calm = replace(found, numbers=numbers)
    base = clip_alarms(calm, own).keys()
    assert not base & {"washed out", "saturated", "more drift", "no object"}
    for what, value, alarm in (
        ("contrast", 0.7, "washed out"),
        ("saturation", 1.3, "saturated"),
        ("drift", 0.5, "more drift"),
        ("drift", None, "no object"),
    ):
        odd = replace(calm, numbers=numbers | {what: numbers[what] | {"euler": value}})
        told = clip_alarms(odd, own)
        assert told.keys() - base == {alarm}
        assert "euler" in told[alarm]
        assert "anew" not in told[alarm]


def test_the_clock_shows_a_clip_when_its_seconds_are_over_and_then_all_in_step():
    order, pace = clock({"slow": 3.1, "quick": 0.26, "now": 0.0}, frames=16, fps=8)
    assert pace == 1
    assert {len(frames) for frames in order.values()} == {32 + 16}  # one loop of all of them at the end
    assert [frames.count(-1) for frames in order.values()] == [25, 3, 0]
    assert order["now"] == [j % 16 for j in range(48)]
    for frames in order.values():
        assert all(shown in (-1, now) for shown, now in zip(frames, order["now"], strict=True))
        assert frames[-16:] == list(range(16))
    order, pace = clock({"slow": 40.0, "quick": 2.0}, frames=16, fps=8)
    assert pace == 4
    assert order["slow"].count(-1) == 80
    assert order["quick"].count(-1) == 4


def test_without_students_the_teacher_still_has_its_control(tiny_dit, monkeypatch):
    monkeypatch.setattr("vidistill.lab.few_step_session.few_step_models", dict)
    alone = FewStepSession(teacher=f"dit={tiny_dit}").look(PROMPT, SMALL | {"few": 2})
    assert alone.students == []
    assert [take.steps for take in alone.takes.values()] == [6, 2, 2]
    assert alone.alarms == {}


def test_the_zoos_students_are_those_with_times_of_their_own(tiny_students, tiny_dit):
    assert set(few_step_models()) == {name for name in shipped.NAMES if times_of(name)}
    assert "lab-dit" not in few_step_models()
    assert times_of(tiny_students["anew"]) == (1.0, 0.9, 0.7, 0.4)
    assert times_of(tiny_dit) == ()


def test_nothing_runs_on_bad_input(session, tiny_dit, tiny_students):
    with pytest.raises(InputError, match="dit is no few-step model"):
        FewStepSession({"dit": tiny_dit})
    with pytest.raises(InputError, match="no student can be called 'teacher'"):
        FewStepSession({"teacher": tiny_students["anew"]})
    for students, prompt, values, line in (
        (None, "a purpel star", SMALL, "nearest known word: 'purple'"),
        (["nobody"], PROMPT, SMALL, "unknown student 'nobody'"),
        (None, PROMPT, {"renoise": "euler"}, "knob renoise='euler' is not allowed"),
    ):
        with pytest.raises(InputError, match=line):
            session.look(prompt, values, students=students)
    assert session.look(PROMPT, SMALL, seed=5, students=["euler"]).students == ["euler"]
    assert KNOBS.resolve()["renoise"] == "trained"
