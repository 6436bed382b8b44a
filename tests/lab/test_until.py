"""Knobs by step are one line: it is read, checked and told, and forks of forks are told by one line too."""

import pytest

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab.until import Segment, Span, ends, fork, segments, spans, told

KNOBS = Knobs(
    "test",
    Knob("beta", 0.5, "a weight", low=0, high=1),
    Knob("guided", 5, "a count", low=0, high=100),
    Knob("way", "cfg", "a choice", choices=("cfg", "cfg++")),
    Knob("sharp", False, "a switch"),
    Knob("sampling_steps", 0, "steps", low=0, high=100),
)
NOW = {"beta": 0.8, "guided": 5, "way": "cfg", "sharp": False, "sampling_steps": 0}
LINE = "5: beta=0.2, guided=8; 9: beta=0.5"


def test_a_line_is_read_and_told():
    found = segments(LINE, KNOBS)
    assert found == [Segment(5, {"beta": 0.2, "guided": 8}), Segment(9, {"beta": 0.5})]
    assert told(found) == LINE
    assert segments(" 5 :beta = 0.2,guided=8;9:beta=.5 ", KNOBS) == found
    assert (segments("", KNOBS), segments("  ", KNOBS), told([])) == ([], [], "")
    assert ends(LINE) == [5, 9]
    assert ends("") == []


def test_every_kind_of_value_comes_back_as_it_was():
    values = {"beta": 0.1 + 0.2, "guided": 12, "way": "cfg++", "sharp": True}
    (one,) = segments(told([Segment(3, values)]), KNOBS)
    assert one.values == values
    assert [type(value) for value in one.values.values()] == [float, int, str, bool]
    assert told([Segment(3, {"beta": 1.0})]) == "3: beta=1"
    assert segments(told([Segment(3, {}), Segment(4, {"beta": 0.5})]), KNOBS) == [Segment(3, {}), Segment(4, {"beta": 0.5})]


def test_steps_and_their_knobs():
    assert spans(LINE, KNOBS, NOW, 12) == [
        Span(1, 5, NOW | {"beta": 0.2, "guided": 8}),
        Span(6, 9, NOW | {"beta": 0.5}),
        Span(10, 12, NOW),
    ]
    assert spans("", KNOBS, NOW, 1) == [Span(1, 1, NOW)]
    one, two = spans("1: beta=0.1", KNOBS, NOW, 2)
    one.values["beta"] = two.values["beta"] = 0.0
    assert NOW["beta"] == 0.8  # nobody's settings are written to


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5 beta=0.2", "write it as '5: beta=0.2, guided=8; 9: beta=0.5'"),
        ("5: beta", "write it as"),
        ("5: =3", "write it as"),
        ("5: beta=", "write it as"),
        ("5: beta=0.2;", "write it as"),
        ("-1: beta=0.2", "write it as"),
        ("2.5: beta=0.2", "write it as"),
        ("5: beta=0.2, beta=0.3", "a knob is named twice until step 5"),
        ("0: beta=0.2", "must rise from 1 on, and 0 comes after 0"),
        ("5: beta=0.2; 5: beta=0.3", "must rise from 1 on, and 5 comes after 5"),
        ("5: beta=0.2; 4: beta=0.3", "must rise from 1 on, and 4 comes after 5"),
        ("5: bta=0.2", "unknown knob 'bta' for test: did you mean 'beta'"),
        ("5: beta=1.2", "knob beta=1.2 is not allowed"),
        ("5: guided=high", "knob guided='high' is not allowed"),
        ("5: way=cgf", "did you mean 'cfg'"),
        ("5: sampling_steps=4", "sampling_steps is one for the whole run"),
        ("12: beta=0.2", "the run has 12 steps, and those of now need one after 12"),
        ("3: beta=0.2; 20: beta=0.2", "the run has 12 steps, and those of now need one after 20"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(line, said):
    with pytest.raises(InputError) as caught:
        spans(line, KNOBS, NOW, 12)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def asked(until="", **knobs):
    return NOW | {"prompt": "a star", "seed": 3} | knobs | ({"until": until} if until else {})


def test_a_fork_keeps_what_was_and_names_only_what_changed():
    assert fork(KNOBS, asked(beta=0.2), asked(beta=0.8), 5) == "5: beta=0.2"
    assert fork(KNOBS, asked(beta=0.2, way="cfg++"), asked(beta=0.8, guided=7), 1) == "1: beta=0.2, guided=5, way=cfg++"
    assert fork(KNOBS, asked(), asked(), 5) == ""
    assert fork(KNOBS, asked(beta=0.2), asked("2: guided=1", beta=0.8), 5) == "5: beta=0.2"  # the line of now is not looked at


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (3, "3: beta=0.2"),  # the segment that has step 3 ends there
        (5, "5: beta=0.2"),
        (7, "5: beta=0.2; 7: beta=0.5"),  # the segment stays, what came after it is kept up to 7
        (9, "5: beta=0.2; 9: beta=0.5"),
    ],
)
def test_a_fork_of_a_fork(step, line):
    assert fork(KNOBS, asked("5: beta=0.2", beta=0.5), asked(beta=0.8), step) == line


def test_a_fork_of_a_fork_of_a_fork():
    third = asked(LINE, beta=0.8)
    assert fork(KNOBS, third, asked(beta=0.9, guided=5), 7) == "5: beta=0.2, guided=8; 7: beta=0.5"
    assert fork(KNOBS, third, asked(beta=0.9), 11) == "5: beta=0.2, guided=8; 9: beta=0.5; 11: beta=0.8"
    assert fork(KNOBS, third, third, 11) == LINE  # nothing changes at step 11
    assert fork(KNOBS, third, asked(beta=0.5), 9) == "5: beta=0.2, guided=8"  # from step 6 on there is one beta
    assert fork(KNOBS, third, asked(beta=0.5), 11) == "5: beta=0.2, guided=8; 9:; 11: beta=0.8"
    assert segments("5: beta=0.2, guided=8; 9:; 11: beta=0.8", KNOBS)[1] == Segment(9, {})


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("before", [asked(), asked(beta=0.2), asked(LINE), asked("4:; 6: beta=0.1, way=cfg++", beta=0.3)])
@pytest.mark.parametrize("now", [asked(), asked(beta=0.2), asked(way="cfg++", guided=8)])
def test_the_steps_of_a_fork_are_the_other_runs_up_to_it_and_those_of_now_after_it(before, now, step):
    def each(settings, until):
        found = spans(until, KNOBS, {name: settings[name] for name in KNOBS}, 12)
        return [span.values for span in found for _ in range(span.first, span.last + 1)]

    line = fork(KNOBS, before, now, step)
    assert each(now, line) == each(before, before.get("until", ""))[:step] + each(now, "")[step:]
    assert told(segments(line, KNOBS)) == line


def test_what_would_be_another_run_from_the_first_step_on_is_no_fork():
    for name, value in (("seed", 4), ("prompt", "a disc"), ("sampling_steps", 8)):
        with pytest.raises(InputError, match=f"a fork keeps {name.replace('_', ' ')}: .*set it back, or begin from the beginning"):
            fork(KNOBS, asked(), asked(**{name: value}), 5)
    with pytest.raises(InputError, match="cannot fork after step 0"):
        fork(KNOBS, asked(), asked(beta=0.1), 0)
