"""GVD's bench: clips are the sampler's own, the twin is sampled once, numbers are what they say, failures are named."""

import json
from dataclasses import replace

import pytest
import torch

import vidistill.sample
from vidistill.errors import InputError
from vidistill.guide import Pull
from vidistill.lab.branches import Branches
from vidistill.lab.gvd_session import CENTRE, GUIDED, KNOBS, TWIN, GvdSession, Look, alarms, presets
from vidistill.lab.memory import REMEMBER, Memory
from vidistill.lab.previews import Preview
from vidistill.papers.gvd import KNOBS as PAPER
from vidistill.schedule import Interval, frame_weights

FEW = {"sampling_steps": 4, "guidance": 2.0, "centres": 2, "strength": 0.5}


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield GvdSession({"dit": tiny_dit, "unet": tiny_unet}, per_class=5)


@pytest.fixture
def calls(monkeypatch):
    """The operators and the first step of every run of the sampler."""
    seen, sample = [], vidistill.sample.sample

    def counted(*arguments, **options):
        seen.append((len(options.get("operators", ())), options.get("start", 0)))
        return sample(*arguments, **options)

    monkeypatch.setattr(vidistill.sample, "sample", counted)
    return seen


def ask(session, label="slide", model="dit", seed=0, until="", **own) -> Look:
    return session.look(label, session.prompt(label), model, KNOBS.resolve(FEW | own), seed=seed, until=until)


def made(session, **own):
    """Ask, and return the look with the guided clip's steps."""
    look = ask(session, **own)
    return look, next(reversed(session._branches._runs.values()))


def forget(session):
    session._branches = Branches()


def same(one, other):
    return torch.equal(one.x0, other.x0) and torch.equal(one.latents, other.latents)


FORKS = [("dit", {}), ("dit", {"t_high": 900.0}), ("unet", {"eta": 1.0}), ("unet", {"eta": 0.5, "weight": "mgd3", "guidance": 1.0})]


@pytest.mark.parametrize(("model", "own"), [("dit", {}), ("dit", {"t_high": 800.0}), ("unet", {"eta": 1.0, "t_high": 600.0})])
def test_both_clips_are_the_samplers_own(session, model, own):
    """Also where the guided clip begins with the twin's latents, and with noise in every step."""
    look = ask(session, model=model, seed=3, **own)
    net = session.zoo.load(model)
    m = session.centres(net, "slide", look.values).z[[0]]
    pull = Pull(m, 0.5, "score", "linear", Interval(own.get("t_high", 1000.0), 0.0))
    for name, operators in ((TWIN, ()), (GUIDED, (pull,))):
        options = {"seeds": [3], "steps": 4, "guidance": 2.0, "eta": own.get("eta", 0.0)}
        *_, last = vidistill.sample.sample(net, ["slide"], operators=operators, **options)
        assert torch.equal(look.clips[name], net.codec.decode(last.latents, 16)[0]), name
    assert not torch.equal(look.clips[TWIN], look.clips[GUIDED])
    guided = sum(rate > 0 for rate in look.rates)
    assert look.guided == f"{guided} of 4 steps are guided"
    assert guided == 4 if not own else 0 < guided < 4


def test_the_twin_is_sampled_once_for_all_turns_of_the_pull(session, calls):
    first = ask(session, seed=11)
    assert calls == [(0, 0), (1, 0)]
    assert (first.remembered, first.evaluations) == (False, 16)
    turned = ask(session, seed=11, strength=1.5, decay="cosine", weight="mgd3")
    assert calls[2:] == [(1, 0)]
    assert (turned.remembered, turned.evaluations) == (True, 8)
    assert torch.equal(first.clips[TWIN], turned.clips[TWIN])
    late = ask(session, seed=11, t_high=800.0)
    assert calls[3][1] > 0  # what is not pulled is not sampled again
    assert late.evaluations == 2 * (4 - calls[3][1])
    still = ask(session, seed=11, strength=0.0)
    assert len(calls) == 4
    assert still.evaluations == 0
    assert torch.equal(still.clips[GUIDED], still.clips[TWIN])
    assert not ask(session, seed=12).remembered
    assert not ask(session, seed=11, sampling_steps=3).remembered
    assert torch.equal(ask(session, seed=11).clips[GUIDED], first.clips[GUIDED])


def test_numbers_are_what_they_say(session):
    look = ask(session, strength=1.0)
    n = look.numbers
    assert look.pull == pytest.approx(1 - n["distance"][GUIDED] / n["distance"][TWIN])
    assert n["distance"][CENTRE] == 0
    assert look.pull > 0.1
    assert look.decay == frame_weights("linear", 16).tolist()
    assert [len(row) for row in look.force] == [16] * 4
    for row in look.force[:-1]:
        assert row[0] > row[8] > row[15] > 0  # linear decay
    assert look.paths[TWIN][-1] == pytest.approx(n["distance"][TWIN], rel=1e-4)
    assert len(look.paths[GUIDED]) == len(look.rates) == len(look.times) == 4
    assert look.times == sorted(look.times, reverse=True)
    assert len(look.sizes) == len(look.motions) == len(look.pictures) == look.values["centres"] == 2
    assert sum(look.sizes) == 5
    assert {clip.shape for clip in look.clips.values()} == {(3, 16, 64, 64)}
    assert set(look.readings) == {TWIN, GUIDED, CENTRE}
    assert json.loads(json.dumps(look.as_dict(), allow_nan=False))["label"] == "slide"
    assert set(look.as_dict()["values"]) == set(KNOBS)


def test_no_pull_is_said(session):
    nothing = ask(session, strength=0.0)
    assert "lambda is 0" in nothing.guided
    assert list(nothing.alarms) == ["no guidance"]
    assert nothing.pull == pytest.approx(0, abs=1e-6)
    assert not any(map(any, nothing.force))
    missed = ask(session, t_high=5.0)
    assert "0 of 4 steps are guided: none lies in 5 >= t > 0" in missed.alarms["no guidance"]


def test_centres_are_held_to_the_class(session):
    look = ask(session, centres=50, pick=50)
    assert (look.values["centres"], look.values["pick"]) == (5, 5)
    assert look.sizes == [1] * 5
    assert look.numbers["nearest"][CENTRE] == 0  # a centre of one clip is that clip
    one = ask(session, centres=1, pick=3)
    assert one.values["pick"] == 1
    assert one.motions[0] < 0.7
    assert "still videos may come of it" in one.centres


def test_looks_come_before_their_previews_are_whole(session):
    steps = list(session.steps("spin", "spin", "dit", KNOBS.resolve(FEW | {"sampling_steps": 20}), seed=2))
    looks = [step.result for step in steps if isinstance(step.result, Look)]
    assert [sorted(look.formed) for look in looks] == [[], [GUIDED, TWIN]]
    assert [preview.step for preview in looks[1].formed[GUIDED]] == [1, 4, 7, 10, 13, 16, 19]
    live = [step.result for step in steps if isinstance(step.result, Preview)]
    assert live
    assert [preview.name for preview in live] == [TWIN, GUIDED] * (len(live) // 2)
    assert live[0].step == 1  # its cost is not known yet: it is shown at once
    assert steps.index(next(step for step in steps if step.result is looks[0])) > steps.index(next(s for s in steps if s.result is live[0]))
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["load dit", "real clips of spin", "sample", "decode", "previews"]


def test_a_run_that_is_stopped_leaves_nothing_half_done(session, calls):
    values = KNOBS.resolve(FEW)
    run = session.steps("slide", "slide", "dit", values, seed=77)
    while next(run).stage != "sample":
        pass
    run.close()
    assert not ask(session, seed=77).remembered
    assert len(calls) == 4


def test_bad_input_is_one_line_before_anything_is_sampled(session, calls):
    for line, label, prompt, model, own in (
        ("unknown class 'slid'", "slid", "", "dit", {}),
        ("nearest known word: 'purple'", "slide", "a purpel star", "dit", {}),
        ("guide interval 200 to 400", "slide", "slide", "dit", {"t_high": 200.0, "t_low": 400.0}),
        ("samples a flow", "slide", "slide", "dit", {"eta": 1.0}),
        ("unknown model", "slide", "slide", "lab", {}),
    ):
        with pytest.raises(InputError, match=line):
            session.look(label, prompt, model, KNOBS.resolve(FEW | own))
    assert all(count == 0 for count, _ in calls)


def test_presets_are_the_papers_as_far_as_one_clip_shows_them(session):
    found = presets()
    assert set(found) == {"paper", "mgd3", "ours"}
    assert (found["paper"]["centres"], found["mgd3"]["centres"], found["ours"]["centres"]) == (80, 10, 20)
    assert (found["mgd3"]["t_low"], found["mgd3"]["eta"], found["paper"]["weight"]) == (500.0, 1.0, "mgd3")
    for values in found.values():
        KNOBS.resolve({name: value for name, value in values.items() if name != "about"})
    assert all(KNOBS[name] is PAPER[name] for name in KNOBS if name in PAPER)
    assert session.prompt("zigzag") == "zigzag"
    assert (session.zoo.adds_noise("dit"), session.zoo.adds_noise("unet")) == (False, True)


def test_failures_are_named(session):
    n = {"distance": {TWIN: 1.0, GUIDED: 0.5, CENTRE: 0.0}}
    n |= {what: {TWIN: 1.0, GUIDED: 1.0, CENTRE: 1.0} for what in ("motion", "nearest", "norm")}
    look = replace(ask(session), numbers=n, pull=0.5, way=0.9, motions=[0.9, 0.9], norms=[1.0, 1.0])
    look = replace(look, readings={name: "slide" for name in (TWIN, GUIDED, CENTRE)})
    assert alarms(look) == {}

    def told(measure="", value=1.0, **own):
        changed = {name: dict(row) for name, row in n.items()}
        if measure:
            changed[measure][GUIDED] = value
        return alarms(replace(look, numbers=changed, **own))

    assert "moves 60% as much as its twin. Pull less" in told("motion", 0.6)["still"]
    assert "Its centre moves 20%" in told("motion", 0.6, motions=[0.2, 0.9])["still"]
    assert told("motion", 0.75) == {}
    slow = n | {"motion": {TWIN: 1.0, GUIDED: 0.3, CENTRE: 0.5}}
    assert "60% as much as its centre's clips" in alarms(replace(look, numbers=slow, motions=[1.0, 1.0]))["still"]
    assert (
        alarms(replace(look, numbers=slow | {"motion": slow["motion"] | {GUIDED: 0.4}}, motions=[1.0, 1.0])) == {}
    )  # slow clips, not still
    assert "a blur" in told("norm", 0.7)["off the data"]
    assert "overdriven" in told("norm", 1.4)["off the data"]
    assert "1.50 times as far" in told("nearest", 1.5)["off the data"]
    assert "104%" in told(way=1.04)["overshoot"]
    assert list(told(pull=0.01)) == ["no effect"]
    other = {TWIN: "slide", GUIDED: "spin", CENTRE: "slide"}
    assert "reads spin, and slide in the twin" in told(readings=other)["another class"]
    assert told(readings=other | {TWIN: "spin"}) == {}  # the model's own mistake


def test_memory_forgets_the_oldest():
    memory, made = Memory(), []
    for number in range(REMEMBER + 1):
        assert memory.get(number, lambda number=number: made.append(number) or f"answer {number}") == f"answer {number}"
    memory.get(REMEMBER, lambda: made.append("again"))
    assert made == list(range(REMEMBER + 1))
    assert memory.known(0) is None
    assert memory.known(1) == "answer 1"


@pytest.mark.parametrize(("model", "own"), FORKS)
def test_a_fork_is_its_parent_up_to_the_step_and_the_samplers_own_after_it(session, model, own):
    own = {"model": model, "seed": 5, "strength": 0.5} | own
    parent, before = made(session, **own)
    forget(session)
    look, after = made(session, until="2: strength=0.5", **own | {"strength": 2.0})
    assert [same(*pair) for pair in zip(before, after, strict=True)] == [True, True, False, False]
    net, k = session.zoo.load(model), look.values
    m = session.centres(net, "slide", k).z[[0]]
    pulls = [Pull(m, strength, k["weight"], "linear", Interval(k["t_high"], 0.0)) for strength in (0.5, 2.0)]
    options = {"steps": 4, "guidance": k["guidance"], "eta": k["eta"]}
    tape = vidistill.sample.record(net, ["slide"], seeds=[5], operators=pulls[:1], **options)
    *_, last = vidistill.sample.fork(net, tape, 2, operators=pulls[1:])
    assert torch.equal(look.clips[GUIDED], net.codec.decode(last.latents, 16)[0])
    assert torch.equal(look.clips[TWIN], parent.clips[TWIN])
    assert (k["strength"], look.until, parent.until) == (2.0, "2: strength=0.5", "")


@pytest.mark.parametrize(("model", "own"), FORKS)
def test_a_fork_that_changes_nothing_is_its_parent(session, model, own):
    own = {"model": model, "seed": 6} | own
    parent, before = made(session, **own)
    for until in ("1: strength=0.5", "1: strength=0.5; 3: decay=linear"):
        forget(session)
        look, after = made(session, until=until, **own)
        assert all(same(*pair) for pair in zip(before, after, strict=True))
        assert torch.equal(look.clips[GUIDED], parent.clips[GUIDED])
        told = ("force", "rates", "paths", "guided", "numbers", "pull", "way", "alarms")
        assert [getattr(look, name) for name in told] == [getattr(parent, name) for name in told]


def test_what_a_fork_has_in_common_is_not_sampled_again(session, evaluations):
    ask(session, seed=31)
    assert len(evaluations) == 8
    fork = ask(session, seed=31, strength=2.0, until="3: strength=0.5")
    assert (len(evaluations), fork.evaluations) == (9, 2)
    again = ask(session, seed=31, strength=1.0, until="2: strength=0.5; 3: strength=2")  # the parent has its first two
    assert (len(evaluations), again.evaluations) == (11, 4)
    ask(session, seed=31, strength=3.0, until="2: strength=0.5; 3: strength=2")
    assert len(evaluations) == 12
    known = ask(session, seed=31, strength=2.0, until="3: strength=0.5")
    assert (len(evaluations), known.evaluations) == (12, 0)
    assert torch.equal(known.clips[GUIDED], fork.clips[GUIDED])
    ask(session, seed=32, strength=2.0, until="3: strength=0.5")
    assert len(evaluations) == 20


OTHERS = {"strength": 1.0, "weight": "coda", "decay": "none", "t_high": 600.0, "t_low": 300.0, "centre": "medoid", "centres": 3, "pick": 2}
OTHERS |= {"sampling_steps": 3, "guidance": 3.0, "eta": 0.5}


@pytest.mark.parametrize("name", [*KNOBS, "label"])
def test_no_step_is_taken_for_one_with_another_knob(session, name):
    """What is sampled beside a run that is known, and differs from it in one knob, is what is sampled alone."""

    def steps(label="slide", **own):
        for step in session.steps(label, "slide", "unet", KNOBS.resolve(FEW | own), seed=5, previews=False):
            if step.stage == "decode":
                return next(reversed(session._branches._runs.values()))

    other = {name: {**OTHERS, "label": "spin"}[name]}
    forget(session)
    known, turned = steps(), steps(**other)
    forget(session)
    alone = steps(**other)
    assert all(same(*pair) for pair in zip(turned, alone, strict=True))
    assert not same(known[-1], turned[-1])


def test_each_step_is_told_by_the_knobs_that_it_had(session):
    one = ask(session, seed=8, strength=0.5, decay="linear")
    two = ask(session, seed=8, strength=1.0, decay="none", pick=2)
    fork = ask(session, seed=8, strength=1.0, decay="none", pick=2, until="2: strength=0.5, decay=linear, pick=1")
    assert fork.rates == one.rates[:2] + two.rates[2:]
    assert fork.force[:2] == one.force[:2]
    assert fork.force[2][0] == pytest.approx(fork.force[2][15], rel=1)  # no decay
    assert fork.paths[GUIDED][:2] == one.paths[GUIDED][:2]
    assert fork.paths[TWIN] == one.paths[TWIN][:2] + two.paths[TWIN][2:]
    assert fork.paths[GUIDED][-1] == pytest.approx(fork.numbers["distance"][GUIDED], rel=1e-4)
    assert fork.decay == two.decay
    assert (fork.values["pick"], fork.values["decay"]) == (2, "none")
    assert fork.guided == "4 of 4 steps are guided"
    late = ask(session, seed=8, strength=1.0, until="3: strength=0")
    assert [rate > 0 for rate in late.rates] == [False, False, False, True]
    assert late.guided == "1 of 4 steps are guided"
    assert late.paths[GUIDED][:3] == late.paths[TWIN][:3]
    over = ask(session, seed=8, strength=0.0, until="2: strength=0.5")
    assert over.guided == "2 of 4 steps are guided"
    assert "no guidance" not in over.alarms


def test_the_previews_of_a_fork_are_its_parents_up_to_the_step(session):
    def formed(**more):
        values = KNOBS.resolve(FEW | {"strength": 2.0} | more.pop("own", {}))
        *_, last = session.steps("slide", "slide", "dit", values, seed=9, **more)
        return [preview.picture for preview in last.result.formed[GUIDED]]

    pairs = zip(formed(own={"strength": 0.5}), formed(until="2: strength=0.5"), strict=True)
    assert [torch.equal(*pair) for pair in pairs] == [True, True, False]


def test_guidance_and_noise_may_change_on_the_way_and_the_twin_has_those_of_now(session):
    plain = ask(session, model="unet", seed=10, strength=0.0, guidance=3.0)
    fork = ask(session, model="unet", seed=10, strength=0.0, guidance=3.0, until="2: guidance=1.5, eta=1")
    assert torch.equal(fork.clips[TWIN], plain.clips[TWIN])
    assert not torch.equal(fork.clips[GUIDED], fork.clips[TWIN])
    assert fork.alarms["no guidance"].endswith("The clips differ only in how the prompt pulls and noise is added.")
    assert plain.alarms["no guidance"].endswith("The guided clip is its twin.")
    net = session.zoo.load("unet")
    tape = vidistill.sample.record(net, ["slide"], seeds=[10], steps=4, guidance=1.5, eta=1.0)
    *_, last = vidistill.sample.fork(net, tape, 2, guidance=3.0, eta=0.0)
    assert torch.equal(fork.clips[GUIDED], net.codec.decode(last.latents, 16)[0])


def test_a_wrong_line_is_refused_before_anything_is_sampled(session, evaluations):
    for line, until in (
        ("the run has 4 steps", "4: strength=1"),
        ("unknown knob 'beta' for gvd", "2: beta=1"),
        ("sampling_steps is one for the whole run", "2: sampling_steps=9"),
        ("samples a flow", "2: eta=1"),
        ("guide interval 200 to 400", "2: t_high=200, t_low=400"),
        ("cannot sample with guidance=0.5", "2: guidance=0.5"),
    ):
        with pytest.raises(InputError, match=line):
            ask(session, seed=88, until=until)
    assert evaluations == []
