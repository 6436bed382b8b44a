"""VideoGuide's bench: clips are the sampler's own, the two models alone are sampled once, numbers are what they say, failures are named."""

import json
from dataclasses import replace

import pytest
import torch

import vidistill.sample
from vidistill.data.parse import parse
from vidistill.data.world import factors, render
from vidistill.errors import InputError
from vidistill.guide import CfgPlus, LowPass, Switch, low_pass_mask
from vidistill.lab.branches import Branches
from vidistill.lab.previews import Preview
from vidistill.lab.videoguide_session import (
    BASE,
    GUIDED,
    KNOBS,
    MORE_DRIFT,
    SELF,
    SLIGHT,
    SUBJECT,
    TEACHER,
    Look,
    Track,
    VideoGuideSession,
    alarms,
    measured,
    presets,
)
from vidistill.measure import consistency_table
from vidistill.papers.videoguide import KNOBS as PAPER
from vidistill.papers.videoguide import steering
from vidistill.sample import Teacher
from vidistill.schedule import First, guidance_scale

PROMPT = "a red star orbiting over a navy background"
FEW = {"sampling_steps": 4, "guidance": 2.0, "guided": 2, "tau": 3, "points": 5}


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet):
    return VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet})


@pytest.fixture
def calls(monkeypatch):
    """The model and the number of operators of every run of the sampler."""
    seen, sample = [], vidistill.sample.sample

    def counted(model, *arguments, **options):
        seen.append((model.id, len(options.get("operators", ()))))
        return sample(model, *arguments, **options)

    monkeypatch.setattr(vidistill.sample, "sample", counted)
    return seen


def ask(session, prompt=PROMPT, base="unet", teacher="dit", seed=0, until="", **own) -> Look:
    """Return the look as it comes first, without what was seen on the way."""
    run = session.steps(prompt, base, teacher, KNOBS.resolve(FEW | own), seed=seed, until=until, previews=False)
    return next(step.result for step in run if step.result is not None)


def guided(session, seed=5, until="", **own):
    """Sample the guided clip alone, anew, and return its knobs and its steps."""
    session._branches = Branches()
    run = session._begin(PROMPT, "unet", "dit", KNOBS.resolve(FEW | own), seed, until)
    return run.values, list(run.samplers[GUIDED])


def same(one, other):
    return torch.equal(one.x0, other.x0) and torch.equal(one.latents, other.latents)


def last(*arguments, **options):
    *_, step = vidistill.sample.sample(*arguments, **options)
    return step


@pytest.mark.parametrize(("base", "teacher"), [("unet", "dit"), ("dit", "unet"), ("unet", SELF)])
def test_all_clips_are_the_samplers_own(session, base, teacher):
    look = ask(session, base=base, teacher=teacher, seed=3, beta=0.3, lam=0.7, space=0.5, outside="cfg++")
    net = session.zoo.load(base)
    other = net if teacher == SELF else session.zoo.load(teacher)
    options = {"seeds": [3], "steps": 4}
    guide = Teacher(other, net, [PROMPT], 0.3, 3, 5, CfgPlus(0.7), "snr_matched", interval=First(2))
    way = Switch(CfgPlus(0.7), CfgPlus(0.7), First(2))
    runs = {
        BASE: last(net, [PROMPT], guidance=2.0, **options),
        TEACHER: last(other, [PROMPT], **options),  # with its own guidance
        GUIDED: last(net, [PROMPT], guidance=way, operators=[guide, LowPass(0.5, 0.25, 4, First(2))], **options),
    }
    for name, clip in look.clips.items():
        assert torch.equal(clip, (other if name == TEACHER else net).codec.decode(runs[name].latents, 16)[0]), name
        assert look.takes[name].evaluations == runs[name].evaluations, name
    assert list(look.takes) == ([BASE, GUIDED] if teacher == SELF else [BASE, TEACHER, GUIDED])
    assert look.takes[GUIDED].evaluations == 2 * 4 + 2 * (2 * 3)  # N + I tau, twice with a prompt and without


def test_the_models_alone_are_sampled_once_for_all_turns_of_the_guidance(session, calls):
    first = ask(session, seed=11)
    assert [count for _, count in calls] == [2, 0, 0]
    assert first.remembered == ()
    turned = ask(session, seed=11, beta=0.2, guided=3, tau=1, space=0.0, lam=0.5, inside="cfg", outside="cfg++", t_map="snr_matched")
    assert [count for _, count in calls[3:]] == [1]
    assert turned.remembered == (BASE, TEACHER)
    assert turned.takes[BASE].seconds == first.takes[BASE].seconds
    assert all(torch.equal(first.clips[name], turned.clips[name]) for name in (BASE, TEACHER))
    assert not torch.equal(first.clips[GUIDED], turned.clips[GUIDED])
    assert ask(session, seed=11, teacher=SELF).remembered == (BASE,)
    assert ask(session, seed=11, guidance=3.0).remembered == (TEACHER,)  # the base's guidance is its own affair
    assert ask(session, seed=11, sampling_steps=5).remembered == ()
    assert ask(session, seed=12).remembered == ()
    assert torch.equal(ask(session, seed=11).clips[GUIDED], first.clips[GUIDED])


def test_a_teacher_of_the_same_name_is_the_base_itself(session, calls):
    look = ask(session, teacher="unet", seed=21)
    assert (look.teacher, list(look.takes)) == (SELF, [BASE, GUIDED])
    assert len(calls) == 2
    assert torch.equal(look.clips[GUIDED], ask(session, teacher=SELF, seed=21).clips[GUIDED])


def test_without_teacher_and_filter_it_is_the_base_bit_for_bit(session):
    for own in ({"guided": 0}, {"beta": 1.0, "space": 0.0, "inside": "cfg"}):
        look = ask(session, seed=4, **own)
        assert torch.equal(look.clips[GUIDED], look.clips[BASE])
        assert look.changed == 0
        assert look.takes[GUIDED].evaluations == look.takes[BASE].evaluations == 8
        assert list(look.alarms) == ["no teacher"]
        assert (look.kept, look.mask) == (look.modes, [])
        assert not any(map(any, look.forces.values()))
    assert "beta is 1" in look.alarms["no teacher"]
    assert "I is 0" in ask(session, seed=4, guided=0).alarms["no teacher"]


def test_numbers_are_what_they_say(session):
    look = ask(session, beta=0.25, guided=3)
    net = session.zoo.load("unet")
    grid = net.grid(4)
    assert look.ways == ["cfg++"] * 3 + ["cfg"]
    assert look.scales == [guidance_scale(0.8, *at) for at in grid[:3]] + [2.0]
    assert [force > 0 for force in look.forces["teacher"]] == [True] * 3 + [False]
    assert [force > 0 for force in look.forces["low-pass"]] == [True] * 3 + [False]
    assert look.apart == pytest.approx([force / 0.75 for force in look.forces["teacher"][:3]])
    assert look.times == sorted(look.times, reverse=True)
    assert look.guided == "the first 3 of 4 steps are guided"
    for name, clip in look.clips.items():
        assert {key: row[name] for key, row in look.numbers.items()} == measured(clip)
        assert [reading.seen for reading in look.takes[name].readings] == list(parse(clip[None]).records()[0].values())
        assert look.takes[name].readings[1].asked == "star"
    assert {clip.shape for clip in look.clips.values()} == {(3, 16, 64, 64)}
    told = json.loads(json.dumps(look.as_dict(), allow_nan=False))
    assert told["takes"][GUIDED]["evaluations"] == 8 + 3 * 6
    assert set(told["values"]) == set(KNOBS)


def test_measures_are_those_of_the_tables():
    wanted = [factors(8, 3)]
    clip = render(wanted)
    table = consistency_table(clip, wanted)
    found = measured(clip[0])
    assert found == {name: pytest.approx(float(table[name])) for name in found}


def test_an_object_that_nobody_sees_has_no_number():
    found = measured(torch.full((3, 16, 64, 64), 128, dtype=torch.uint8))
    assert (found["drift_any"], found["motion"]) == (None, None)
    assert found[SUBJECT] == pytest.approx(1)  # a still picture has the best consistency there is


def test_the_mask_is_the_filters(session):
    look = ask(session, space=0.5, time=0.3)
    whole = low_pass_mask("butterworth", (16, 8, 8), 0.5, 0.3, 4)
    assert (look.kept, look.modes) == (int((whole > 0.5).sum()), 1024)
    assert torch.tensor(look.mask).equal(torch.fft.fftshift(whole[:, :, 0]))
    assert look.mask[8][4] == 1  # the mean, in the middle
    assert (look.axes[0][8], look.axes[1][4], look.axes[0][0], look.axes[1][0]) == (0, 0, -1, -1)


def test_looks_come_before_what_was_seen_on_the_way(session):
    steps = list(session.steps(PROMPT, "unet", "dit", KNOBS.resolve(FEW | {"sampling_steps": 12}), seed=2))
    looks = [step.result for step in steps if isinstance(step.result, Look)]
    assert [sorted(look.formed) for look in looks] == [[], [BASE, GUIDED, TEACHER]]
    assert [preview.step for preview in looks[1].formed[GUIDED]] == [1, 3, 5, 7, 9, 11]
    for name in (BASE, TEACHER, GUIDED):
        path = looks[1].paths[name]
        assert path["step"] == [1, 3, 5, 7, 9, 11, 12]
        end = {"step": [12], "drift": [looks[0].numbers["drift_any"][name]], "motion": [looks[0].numbers["motion"][name]]}
        assert looks[0].paths[name] == end
        assert {key: values[-1:] for key, values in path.items()} == end
        assert len(path["drift"]) == len(path["motion"]) == 7
    live = [step.result for step in steps if isinstance(step.result, Preview)]
    assert [preview.name for preview in live[:3]] == [BASE, TEACHER, GUIDED]
    assert live[0].step == 1  # its cost is not known yet: it is shown at once
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["load unet", "load dit", "guided step", "step", "decode", "drift and motion on the way"]
    assert [(step.done, step.total) for step in steps if step.stage == "guided step"][-1] == (2, 2)


def test_drift_and_motion_on_the_way_are_those_of_the_predicted_clip(session):
    net = session.zoo.load("unet")
    look = session.look(PROMPT, "unet", "dit", KNOBS.resolve(FEW), seed=6)
    first = next(vidistill.sample.sample(net, [PROMPT], seeds=[6], steps=4, guidance=2.0))
    seen = measured(net.codec.decode(first.x0, 16)[0])
    path = look.paths[BASE]
    assert (path["drift"][0], path["motion"][0]) == (seen["drift_any"], seen["motion"])


def test_a_run_that_is_stopped_leaves_nothing_half_done(session, calls):
    run = session.steps(PROMPT, "unet", "dit", KNOBS.resolve(FEW), seed=77)
    while next(run).stage != "guided step":
        pass
    run.close()
    assert ask(session, seed=77).remembered == ()
    assert len(calls) == 6


def test_bad_input_is_one_line_before_anything_is_sampled(session, monkeypatch):
    from vidistill.sample.denoiser import Epsilon, Flow

    for family in (Epsilon, Flow):
        monkeypatch.setattr(family, "predict", lambda *arguments: pytest.fail("a network was called"))
    for line, own in (
        ("I=5 .* N=4", {"guided": 5}),
        ("1 <= tau < points", {"tau": 5}),
        ("same_index means nothing between", {"t_map": "same_index"}),
        ("samples a flow", {"base": "dit", "teacher": "unet", "eta": 1.0}),
        ("nearest known word: 'purple'", {"prompt": "a purpel star"}),
        ("unknown base model", {"base": "lab"}),
        ("unknown teacher", {"teacher": "lab"}),
    ):
        with pytest.raises(InputError, match=line) as caught:
            ask(session, seed=99, **own)
        assert "\n" not in str(caught.value)
    for wrong in ({"beta": 1.1}, {"tau": 0}, {"space": 1.5}, {"time": 0.0}, {"lam": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            KNOBS.resolve(wrong)


def test_presets_are_the_papers_as_far_as_one_clip_shows_them(session):
    found = presets()
    assert set(found) == {"paper", "repo", "lavie", "self", "ours"}
    assert {name for name, values in found.items() if values["teacher"] == SELF} == {"self"}
    assert (found["paper"]["beta"], found["repo"]["beta"]) == (0.5, 0.8)
    assert (found["paper"]["space"], found["repo"]["space"], found["repo"]["time"]) == (0.25, 0.125, 0.125)
    assert (found["paper"]["outside"], found["repo"]["outside"], found["lavie"]["guided"]) == ("cfg", "cfg++", 3)
    for values in found.values():
        KNOBS.resolve({name: value for name, value in values.items() if name not in ("about", "teacher")})
    assert all(KNOBS[name] is PAPER[name] for name in KNOBS)
    assert session.teachers == [SELF, "dit", "unet"]


def test_failures_are_named(session):
    look = ask(session)
    n = {name: dict.fromkeys(look.takes, 1.0) for name in ("motion", SUBJECT, "drift_any")}
    n["drift_any"] = dict.fromkeys(look.takes, 0.5)
    base = look.takes[BASE]
    calm = replace(look, numbers=n, changed=0.5, takes=dict.fromkeys(look.takes, base), scales=[2.0] * 4)
    assert alarms(calm) == {}

    def told(measure="", value=1.0, **own):
        changed = {name: dict(row) for name, row in n.items()}
        if measure:
            changed[measure][GUIDED] = value
        return alarms(replace(calm, numbers=changed, **own))

    assert list(told(changed=SLIGHT / 2)) == ["no effect"]
    slow = told("motion", 0.6)["less motion"]
    assert "60% as much as the base alone and 60% as much as the teacher alone" in slow
    assert "consistency" not in slow
    gamed = n | {"motion": n["motion"] | {GUIDED: 0.3}, SUBJECT: n[SUBJECT] | {BASE: 0.8, GUIDED: 0.95}}
    assert "rose from 0.80 to 0.95: a still picture has the best" in alarms(replace(calm, numbers=gamed))["less motion"]
    calm_teacher = n | {"motion": {BASE: 1.0, TEACHER: 0.5, GUIDED: 0.45}}
    assert alarms(replace(calm, numbers=calm_teacher)) == {}  # as lively as its teacher
    assert "61% of its frames" in told("drift_any", 0.51 + MORE_DRIFT)["more drift"]
    assert told("drift_any", 0.49 + MORE_DRIFT) == {}
    assert "No frame" in told("drift_any", None)["no object"]
    readings = base.readings
    right = [replace(readings[0], asked="orbit", seen="orbit"), *readings[1:]]
    wrong = [replace(readings[0], asked="orbit", seen="slide"), *readings[1:]]
    lost = {name: replace(base, readings=tuple(wrong if name == GUIDED else right)) for name in look.takes}
    assert "not in the guided one: motion" in told(takes=lost)["words lost"]
    assert told(takes=dict.fromkeys(look.takes, replace(base, readings=tuple(wrong)))) == {}  # the base's own mistake
    assert "2 of 2 steps of CFG++ equal ordinary guidance of at most 0.9" in told(scales=[0.8, 0.9, 2.0, 2.0])["weak guidance"]
    assert told(scales=[0.8, 1.9, 2.0, 2.0]) == {}


TURNS = {  # knobs of the whole run: what changes after a step
    "teacher": ({"guided": 4, "space": 0.0}, {"beta": 0.9}),
    "low-pass": ({"guided": 4, "beta": 1.0}, {"space": 0.6, "time": 0.1}),
    "both, and the filter's kind": ({"guided": 4}, {"beta": 0.1, "filter": "gaussian"}),
    "the first I": ({"guided": 4}, {"guided": 1}),
    "more of the first I": ({"guided": 1}, {"guided": 3}),
    "CFG++": ({"guided": 3, "outside": "cfg++"}, {"lam": 0.4}),
    "guidance": ({"guided": 1, "inside": "cfg"}, {"guidance": 4.0}),
    "noise in every step": ({"eta": 1.0, "guided": 3}, {"beta": 0.0}),
    "noise from then on": ({"guided": 2}, {"eta": 0.6, "outside": "cfg-zero"}),
}


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("turn", TURNS)
def test_a_fork_is_its_parent_up_to_the_step_and_the_samplers_own_after_it(session, turn, step):
    own, now = TURNS[turn]
    k, before = guided(session, **own)
    line = f"{step}: " + ", ".join(f"{name}={k[name]}" for name in now)
    values, after = guided(session, until=line, **own | now)
    net, other = session.zoo.load("unet"), session.zoo.load("dit")
    how = []
    for each in (k, values):
        operators, guidance = steering(each, net, other, [PROMPT])
        how.append({"operators": operators, "guidance": guidance, "eta": each["eta"]})
    tape = vidistill.sample.record(net, [PROMPT], seeds=[5], steps=4, **how[0])
    rest = list(vidistill.sample.fork(net, tape, step, **how[1]))
    assert all(same(*pair) for pair in zip(after[step:], rest, strict=True))
    kept = [same(*pair) for pair in zip(before, after, strict=True)]
    if step == 3 and own.get("guided", 4) < 4 and not {"guidance", "eta", "lam"} & set(now):
        assert all(kept)  # the fourth step is none of the first three
    else:
        assert kept == [True] * step + [False] * (4 - step)
    assert now.items() <= values.items()


@pytest.mark.parametrize("turn", TURNS)
def test_a_fork_that_changes_nothing_is_its_parent(session, turn):
    own, _ = TURNS[turn]
    k, before = guided(session, **own)
    _, after = guided(session, until=f"1: tau=3; 2: points=5; 3: beta={k['beta']}", **own)
    assert all(same(*pair) for pair in zip(before, after, strict=True))
    assert before[-1].evaluations == after[-1].evaluations
    assert [list(step.forces) for step in before] == [list(step.forces) for step in after]


def test_a_look_of_a_fork_that_changes_nothing_is_its_parents(session):
    parent = ask(session, seed=6)
    session._branches = Branches()
    look = ask(session, seed=6, until="1: tau=3; 3: points=5")
    assert all(torch.equal(look.clips[name], clip) for name, clip in parent.clips.items())
    told = ("ways", "scales", "forces", "apart", "numbers", "changed", "paths", "alarms", "values", "guided")
    theirs = {name: getattr(parent, name) for name in told} | {"guided": "2 of 4 steps are guided"}
    assert {name: getattr(look, name) for name in told} == theirs


def test_the_first_steps_count_from_the_runs_own_first(session):
    """I of 3 after step 2 guides step 3 alone, and none after step 3."""
    taught = lambda until, **own: ["teacher" in step.forces for step in guided(session, until=until, **own)[1]]  # noqa: E731
    assert taught("2: guided=0", guided=3) == [False, False, True, False]
    assert taught("3: guided=0", guided=3) == [False] * 4
    assert taught("1: beta=1; 2: guided=1", guided=4) == [False, False, True, True]
    late = ask(session, seed=7, guided=3, until="3: guided=0")
    assert "the first 3 steps had other knobs" in late.alarms["no teacher"]
    assert ask(session, seed=7, guided=3, until="2: guided=0").guided == "1 of 4 steps are guided"


def test_what_a_fork_has_in_common_is_not_sampled_again(session, evaluations):
    own = {"seed": 31, "guided": 4, "tau": 1, "space": 0.0}
    parent = ask(session, **own)
    assert len(evaluations) == 4 + 4 + (4 + 4)  # base, teacher, guided with one evaluation of the teacher a step
    del evaluations[:]
    fork = ask(session, **own | {"beta": 0.9}, until="3: beta=0.5")
    assert len(evaluations) == 2
    assert fork.takes[GUIDED].evaluations == parent.takes[GUIDED].evaluations  # those of all its steps
    again = ask(session, **own | {"beta": 0.1}, until="1: beta=0.5; 3: beta=0.9")
    assert len(evaluations) == 2 + 6
    ask(session, **own | {"beta": 0.3}, until="1: beta=0.5; 3: beta=0.9")
    assert len(evaluations) == 2 + 6 + 2
    assert torch.equal(ask(session, **own | {"beta": 0.1}, until="1: beta=0.5; 3: beta=0.9").clips[GUIDED], again.clips[GUIDED])
    ask(session, **own | {"guided": 3})  # as many guided steps less one: three are the parent's
    assert len(evaluations) == 2 + 6 + 2 + 1
    assert again.remembered == (BASE, TEACHER)


OTHERS = {"beta": 0.2, "guided": 2, "tau": 2, "space": 0.5, "time": 0.5, "sampling_steps": 3, "guidance": 3.0, "eta": 0.5}
OTHERS |= {"inside": "cfg", "outside": "cfg++", "lam": 0.5, "points": 6, "t_map": "same_index", "scale": 0.9, "filter": "ideal", "order": 2}


@pytest.mark.parametrize("name", KNOBS)
def test_no_step_is_taken_for_one_with_another_knob(session, name):
    """What is sampled beside a run that is known, and differs from it in one knob, is what is sampled alone."""

    def steps(**own):
        run = session._begin(PROMPT, "unet", SELF, KNOBS.resolve(FEW | {"guided": 3} | own), 5, "")
        found = list(run.samplers[GUIDED])
        session._branches.keep(run.causes, found)
        return found

    session._branches = Branches()
    known = steps()
    turned = steps(**{name: OTHERS[name]})
    session._branches = Branches()
    alone = steps(**{name: OTHERS[name]})
    assert all(same(*pair) for pair in zip(turned, alone, strict=True))
    assert same(known[-1], turned[-1]) == (name == "t_map")  # both begin at one place where the base is its own teacher


def test_each_step_is_told_by_the_knobs_that_it_had(session):
    one = ask(session, seed=8, beta=0.25, guided=3)
    two = ask(session, seed=8, beta=0.5, guided=4, lam=0.6, guidance=3.0, outside="apg")
    line = "2: beta=0.25, lam=0.8, guidance=2, guided=3"
    fork = ask(session, seed=8, beta=0.5, guided=4, lam=0.6, guidance=3.0, outside="apg", until=line)
    assert fork.scales == one.scales[:2] + two.scales[2:]
    assert fork.ways == ["cfg++"] * 4
    assert all(fork.forces[name][:2] == one.forces[name][:2] for name in fork.forces)
    assert fork.apart[:2] == one.apart[:2]
    assert fork.apart[2:] == pytest.approx([force / 0.5 for force in fork.forces["teacher"][2:]])
    assert torch.equal(fork.clips[BASE], two.clips[BASE])  # as it is now
    assert not torch.equal(fork.clips[BASE], one.clips[BASE])
    assert fork.until == line
    assert json.loads(json.dumps(fork.as_dict()))["until"] == fork.until


def test_the_previews_of_a_fork_are_its_parents_up_to_the_step(session):
    def formed(**own):
        track = Track(GUIDED, session.zoo.load("unet"), PROMPT)
        track.steps = guided(session, **own)[1]
        return [track.preview(done).picture for done in (1, 2, 3)]

    pairs = zip(formed(guided=4, beta=0.1), formed(guided=4, beta=1.0, until="2: beta=0.1"), strict=True)
    assert [torch.equal(*pair) for pair in pairs] == [True, True, False]


def test_a_wrong_line_is_refused_before_anything_is_sampled(session, evaluations):
    for line, until in (
        ("the run has 4 steps", "4: beta=1"),
        ("unknown knob 'strength' for videoguide", "2: strength=1"),
        ("sampling_steps is one for the whole run", "2: sampling_steps=9"),
        ("1 <= tau < points", "2: tau=7"),
        ("I=5 .* N=4", "2: guided=5"),
        ("same_index means nothing between", "2: t_map=same_index"),
    ):
        with pytest.raises(InputError, match=line):
            ask(session, seed=88, until=until)
    with pytest.raises(InputError, match="samples a flow"):
        ask(session, base="dit", teacher="unet", seed=88, until="2: eta=1")
    assert evaluations == []
    full = ask(session, seed=88, guided=4)
    with pytest.raises(InputError, match=r"I=5 .* N=4"):
        ask(session, seed=88, guided=5)  # also where all its steps are known
    assert full.until == ""
