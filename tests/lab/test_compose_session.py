"""All operators on one clip: limits are the other sessions' own clips, nothing is sampled twice, the order is told as it is."""

import json
from dataclasses import replace

import pytest
import torch

import vidistill.sample
from vidistill.errors import InputError
from vidistill.lab import gvd_session, videoguide_session
from vidistill.lab.compose_session import (
    ALL,
    ALONE,
    KNOBS,
    LOW_PASS,
    ORDERS,
    PULL,
    SWITCHES,
    TEACHER,
    UNDONE,
    ComposeSession,
    Look,
    alarms,
    only,
    presets,
)
from vidistill.lab.previews import Preview
from vidistill.lab.videoguide_session import MORE_DRIFT, SELF, SLIGHT, SUBJECT, measured

PROMPT = "a red star orbiting over a navy background"
FEW = {"sampling_steps": 4, "guidance": 2.0, "centres": 2, "strength": 0.5, "guided": 2, "tau": 2, "points": 4, "space": 0.5}
PLAIN = {"inside": "cfg", "outside": "cfg"}
OFF = dict.fromkeys(SWITCHES.values(), False)


@pytest.fixture(scope="module")
def models(tiny_dit, tiny_unet, tiny_students):
    return {"dit": tiny_dit, "unet": tiny_unet, **tiny_students}


@pytest.fixture(scope="module")
def session(models, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield ComposeSession(models, per_class=5)


@pytest.fixture(scope="module")
def peers(models, session):
    """GVD's and VideoGuide's sessions."""
    return gvd_session.GvdSession(models, per_class=5), videoguide_session.VideoGuideSession(models)


@pytest.fixture
def calls(monkeypatch):
    """The operators of every run of the sampler, in their order."""
    seen, sample = [], vidistill.sample.sample

    def counted(*arguments, **options):
        seen.append(tuple(one.name for one in options.get("operators", ())))
        return sample(*arguments, **options)

    monkeypatch.setattr(vidistill.sample, "sample", counted)
    return seen


def ask(session, label="orbit", prompt=PROMPT, model="unet", teacher="dit", seed=0, **own) -> Look:
    """Return the look as it comes first, without previews."""
    run = session.steps(label, prompt, model, teacher, KNOBS.resolve(FEW | own), seed=seed, previews=False)
    return next(step.result for step in run if step.result is not None)


def only_sampled(session, **own):
    """Sample what is not known, and look at nothing."""
    run = session.steps("orbit", PROMPT, "unet", "dit", KNOBS.resolve(FEW | own), seed=11, previews=False)
    while next(run).stage != "decode":
        pass
    run.close()


@pytest.mark.parametrize(("model", "own"), [("unet", {}), ("dit", {"inside": "cfg++", "guided": 0}), ("anew", {"guidance": 0.0})])
def test_without_operators_it_is_the_model_alone_bit_for_bit(session, calls, model, own):
    look = ask(session, model=model, seed=3, **OFF, **PLAIN | own)
    net = session.zoo.load(model)
    guidance = {} if model == "anew" else {"guidance": 2.0}
    assert calls == [()]
    *_, last = vidistill.sample.sample(net, [PROMPT], seeds=[3], steps=4, **guidance)
    assert list(look.takes) == [ALONE, ALL]
    assert all(torch.equal(clip, net.codec.decode(last.latents, 16)[0]) for clip in look.clips.values())
    assert (look.changed, look.acts, look.adds, look.forces) == (0, (), None, {})
    assert list(look.alarms) == ["nothing acts"]
    assert look.takes[ALL].evaluations == last.evaluations


@pytest.mark.parametrize(
    ("model", "own"), [("unet", {"eta": 0.5, "t_low": 300.0}), ("dit", {"decay": "cosine"}), ("euler", {"weight": "blend"})]
)
def test_the_pull_alone_is_gvds_clip_bit_for_bit(session, peers, model, own):
    look = ask(session, model=model, seed=4, **PLAIN, **OFF | {"pull": True} | own)
    values = {name: value for name, value in (FEW | own).items() if name in gvd_session.KNOBS}
    theirs = peers[0].look("orbit", PROMPT, model, values, seed=4)
    assert torch.equal(look.clips[ALL], theirs.clips[gvd_session.GUIDED])
    assert torch.equal(look.clips[ALONE], theirs.clips[gvd_session.TWIN])
    assert torch.equal(look.centre, theirs.clips[gvd_session.CENTRE])
    assert look.forces[PULL] == theirs.force
    assert look.numbers["distance"][ALL] == pytest.approx(theirs.numbers["distance"][gvd_session.GUIDED])
    assert (look.numbers["pull"][ALL], look.numbers["way"][ALL]) == pytest.approx((theirs.pull, theirs.way), abs=1e-5)
    assert (look.sizes, look.centres) == (theirs.sizes, theirs.centres)
    assert list(look.takes) == [ALONE, ALL]


@pytest.mark.parametrize(("model", "teacher", "low_pass"), [("unet", "dit", True), ("unet", SELF, False), ("dit", "unet", False)])
def test_the_teacher_alone_is_videoguides_clip_bit_for_bit(session, peers, model, teacher, low_pass):
    """Its control is the model with the same way of combining outputs, which is VideoGuide's where both ways are one."""
    look = ask(session, model=model, teacher=teacher, seed=5, **OFF | {"teach": True, "low_pass": low_pass}, beta=0.3, lam=0.7)
    values = {name: value for name, value in (FEW | {"beta": 0.3, "lam": 0.7}).items() if name in videoguide_session.KNOBS}
    theirs = peers[1].look(PROMPT, model, teacher, values | ({} if low_pass else {"space": 0.0}), seed=5)
    assert torch.equal(look.clips[ALL], theirs.clips[videoguide_session.GUIDED])
    assert not torch.equal(look.clips[ALONE], theirs.clips[videoguide_session.BASE])  # CFG++ on the first steps
    assert look.takes[ALL].evaluations == theirs.takes[videoguide_session.GUIDED].evaluations
    plain = ask(session, model=model, teacher=teacher, seed=5, **OFF, **PLAIN)
    assert torch.equal(plain.clips[ALONE], theirs.clips[videoguide_session.BASE])


def test_what_is_alone_in_the_whole_is_what_is_alone_by_itself(session):
    whole = ask(session, seed=6, low_pass=True)
    assert list(whole.takes) == [ALONE, only(PULL), only(TEACHER), only(LOW_PASS), ALL]
    assert whole.acts == (PULL, TEACHER, LOW_PASS)
    for operator, switch in SWITCHES.items():
        alone = ask(session, seed=6, **OFF | {switch: True})
        assert torch.equal(whole.clips[only(operator)], alone.clips[ALL]), operator
        assert alone.remembered == (ALONE, ALL)
    assert len({clip.numpy().tobytes() for clip in whole.clips.values()}) == 5


def test_nothing_is_sampled_twice(session, calls):
    first = ask(session, seed=11)
    assert calls == [(), ("pull",), ("teacher",), ("pull", "teacher")]
    assert first.remembered == ()
    turns = (
        ({"decay": "cosine"}, [("pull",), ("pull", "teacher")]),
        ({"beta": 0.9}, [("teacher",), ("pull", "teacher")]),
        ({"low_pass": True}, [("low-pass",), ("pull", "teacher", "low-pass")]),
        ({"chain": ORDERS[1]}, [("teacher", "pull")]),
        ({"pick": 2}, [("pull",), ("pull", "teacher")]),
        ({"space": 0.9, "time": 0.9, "order": 2, "filter": "ideal"}, []),  # of an operator that is switched off
        (PLAIN, [(), ("pull",), ("teacher",), ("pull", "teacher")]),
        (PLAIN | {"lam": 0.3}, []),  # nobody's scale
        ({"guidance": 3.0}, [(), ("pull",), ("teacher",), ("pull", "teacher")]),
        (PLAIN | {"t_high": 500.0, "guided": 1}, [("pull",), ("teacher",), ("pull", "teacher")]),
        (PLAIN | {"t_high": 500.0, "guided": 1, "chain": ORDERS[1]}, []),  # no step has both
    )
    for own, sampled in turns:
        calls.clear()
        only_sampled(session, **own)
        assert calls == sampled, own
    again = ask(session, seed=11)
    assert again.remembered == tuple(again.takes)
    assert all(torch.equal(clip, first.clips[name]) for name, clip in again.clips.items())
    calls.clear()
    ask(session, seed=11, teacher=SELF)
    assert calls == [("teacher",), ("pull", "teacher")]
    assert ask(session, seed=11, label="spin").remembered == (ALONE, only(TEACHER))


def test_an_operator_that_cannot_act_is_none(session, calls):
    for own, operator, why in (
        ({"strength": 0.0}, PULL, "lambda is 0"),
        ({"t_high": 200.0, "t_low": 100.0}, PULL, "none lies in 200 >= t > 100"),
        ({"beta": 1.0}, TEACHER, "beta is 1"),
        ({"guided": 0}, TEACHER, "I is 0"),
        ({"low_pass": True, "space": 0.0}, LOW_PASS, "cut-off in space is 0"),
    ):
        look = ask(session, seed=13, **own)
        assert operator not in look.acts
        assert operator not in look.forces
        assert why in look.told[operator]
        assert f"{operator} (" in look.alarms["idle"]
        assert (look.adds is None) == (len(look.acts) == 1)
    assert max(calls, key=len) == ("pull", "teacher")


@pytest.mark.parametrize(("model", "teacher"), [("unet", "dit"), ("anew", "dit")])
def test_the_order_matters_where_both_act(session, model, teacher):
    one = ask(session, model=model, teacher=teacher, seed=14, guidance=0.0)
    assert one.order == "2 of 4 steps have both, and the teacher sees what the pull did; turn the order to see what the other one gives."
    other = ask(session, model=model, teacher=teacher, seed=14, guidance=0.0, chain=ORDERS[1])
    apart = one.takes[ALL].clip, other.takes[ALL].clip
    assert not torch.equal(*apart)
    assert "and the pull sees what the teacher did; in the other order the clip is another one by" in other.order
    assert "in the other order" in ask(session, model=model, teacher=teacher, seed=14, guidance=0.0).order
    assert "do not both act" in ask(session, seed=14, teach=False).order


def test_the_order_changes_nothing_where_no_step_has_both(session):
    """Not by the memory's grace: the clip is sampled anew in the other order."""
    late = {"t_high": 500.0, "guided": 1}
    one = ask(session, seed=15, **late)
    assert one.order == "The order changes nothing: no step has both pull and teacher."
    session._memory._answers.clear()
    other = ask(session, seed=15, chain=ORDERS[1], **late)
    assert (other.order, other.remembered) == (one.order, ())
    assert torch.equal(one.clips[ALL], other.clips[ALL])


def test_numbers_are_what_they_say(session):
    look = ask(session, seed=16, low_pass=True)
    for name, clip in look.clips.items():
        assert {key: row[name] for key, row in look.numbers.items() if key not in ("distance", "pull", "way")} == measured(clip)
        assert look.paths[name][-1] == look.numbers["distance"][name]
    assert (look.numbers["pull"][ALONE], look.numbers["way"][ALONE]) == (0, 0)
    assert look.numbers["pull"][only(PULL)] > 0
    assert look.told == {
        PULL: "4 of 4 steps are guided",
        TEACHER: "the first 2 of 4 steps are guided",
        LOW_PASS: "the first 2 of 4 steps are guided",
    }
    for operator, works in ((PULL, [True] * 4), (TEACHER, [True, True, False, False]), (LOW_PASS, [True, True, False, False])):
        assert [any(row) for row in look.forces[operator]] == works
        assert [len(row) for row in look.forces[operator]] == [16] * 4
    assert look.takes[ALL].evaluations == look.takes[ALONE].evaluations + 2 * 2 * 2  # I tau, with a prompt and without
    told = json.loads(json.dumps(look.as_dict(), allow_nan=False))
    assert told["adds"]["told"] == look.adds.told()
    assert set(told["values"]) == set(KNOBS)
    assert look.adds.effects.keys() == look.forces.keys()
    assert len(look.adds.shares) == len(look.times) == 4


def test_small_effects_add_up(session):
    """They are linear, whatever the model; large ones of the same operators are not."""
    small = {"strength": 1e-3, "beta": 0.999, "weight": "blend"} | PLAIN
    adds = ask(session, seed=17, **small).adds
    assert (adds.share, adds.cosine) == pytest.approx((1, 1), abs=0.02)
    assert adds.told().startswith("They add up: 100%")


@pytest.mark.parametrize("student", ["anew", "euler"])
def test_a_few_step_student_is_pulled_and_taught(session, student):
    look = ask(session, model=student, seed=18, **PLAIN, sampling_steps=0, guidance=0.0)
    assert (look.values["sampling_steps"], look.values["guidance"]) == (4, 1.0)
    assert look.acts == (PULL, TEACHER)
    assert (look.takes[ALONE].evaluations, look.takes[ALL].evaluations) == (4, 4 + 2 * 2 * 2)
    assert look.numbers["pull"][only(PULL)] > 0
    assert look.changed > SLIGHT


def test_a_few_step_student_teaches(session):
    own = ask(session, model="anew", teacher=SELF, seed=18, **PLAIN, pull=False, sampling_steps=0, guidance=0.0, points=5)
    assert own.takes[ALL].evaluations == 4 + 2 * 2  # a student needs no output for no prompt
    assert ask(session, model="unet", teacher="anew", seed=18, points=5, pull=False).acts == (TEACHER,)


def test_looks_come_before_their_previews(session):
    steps = list(session.steps("orbit", PROMPT, "unet", "dit", KNOBS.resolve(FEW | {"sampling_steps": 12}), seed=2))
    looks = [step.result for step in steps if isinstance(step.result, Look)]
    names = [ALONE, only(PULL), only(TEACHER), ALL]
    assert [list(look.formed) for look in looks] == [[], names]
    assert all([p.step for p in looks[1].formed[name]] == [1, 3, 5, 7, 9, 11] for name in names)
    assert all({p.name for p in looks[1].formed[name]} == {name} for name in names)
    live = [step.result for step in steps if isinstance(step.result, Preview)]
    assert [p.name for p in live[:4]] == names
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["load unet", "load dit", "real clips of orbit", "step", "decode", "previews"]


def test_a_run_that_is_stopped_leaves_nothing_half_done(session, calls):
    run = session.steps("orbit", PROMPT, "unet", "dit", KNOBS.resolve(FEW), seed=77)
    while next(run).stage != "step":
        pass
    run.close()
    assert ask(session, seed=77).remembered == ()
    assert len(calls) == 8


def test_bad_input_is_one_line_before_anything_is_sampled(session, monkeypatch):
    from vidistill.sample.denoiser import Epsilon, Flow

    for family in (Epsilon, Flow):
        monkeypatch.setattr(family, "predict", lambda *arguments: pytest.fail("a network was called"))
    for line, own in (
        ("unknown class 'orbi'", {"label": "orbi"}),
        ("unknown model", {"model": "lab"}),
        ("unknown teacher", {"teacher": "lab"}),
        ("nearest known word: 'purple'", {"prompt": "a purpel star"}),
        ("I=5 .* N=4", {"guided": 5}),
        ("I=5 .* N=4", {"guided": 5, "model": "anew", "guidance": 0.0}),
        ("guide interval 200 to 400", {"t_high": 200.0, "t_low": 400.0}),
        ("1 <= tau < points", {"tau": 4}),
        ("anew was trained for 4 steps", {"model": "anew", "sampling_steps": 6}),
        ("as a teacher it needs points=5", {"teacher": "anew"}),
        ("samples a flow", {"model": "dit", "teacher": "unet", "eta": 1.0}),
        ("same_index means nothing between", {"t_map": "same_index"}),
        ("knob chain='both' is not allowed", {"chain": "both"}),
    ):
        with pytest.raises(InputError, match=line) as caught:
            ask(session, seed=99, **own)
        assert "\n" not in str(caught.value)


def test_a_teacher_that_is_switched_off_is_no_concern(session, calls):
    look = ask(session, seed=19, teach=False, teacher="anew", guided=40, **PLAIN)
    assert calls == [(), ("pull",)]
    assert TEACHER not in look.told


def test_presets_are_both_papers_on_the_models_own_steps():
    found, theirs = presets(), (gvd_session.presets(), videoguide_session.presets())
    assert list(found) == ["papers", "ours"]
    for name, values in zip(("paper", "ours"), found.values(), strict=True):
        whole = KNOBS.resolve({knob: value for knob, value in values.items() if knob != "about"})
        assert (whole["strength"], whole["beta"]) == (theirs[0][name]["strength"], theirs[1][name]["beta"])
        assert (whole["sampling_steps"], whole["guidance"], whole["eta"], whole["t_map"]) == (0, 0, 0, "snr_matched")
        assert whole["low_pass"] == bool(theirs[1][name]["space"])
        assert whole["space"] == 0.25
    assert all(KNOBS[name] is gvd_session.KNOBS[name] for name in (*gvd_session.PULL, "centres", "pick"))
    assert all(KNOBS[name] is videoguide_session.KNOBS[name] for name in videoguide_session.KNOBS)


def test_failures_are_named(session):
    look = ask(session, seed=20)
    base = look.takes[ALONE]
    n = {what: dict.fromkeys(look.takes, 0.5) for what in ("motion", SUBJECT, "drift_any", "pull", "way")}
    calm = replace(look, numbers=n, changed=0.5, takes=dict.fromkeys(look.takes, base))
    assert alarms(calm, {}) == {}

    def told(measure="", value=1.0, clip=ALL, **own):
        changed = {name: dict(row) for name, row in n.items()}
        if measure:
            changed[measure][clip] = value
        return alarms(replace(calm, numbers=changed, **own), {})

    assert list(told(changed=SLIGHT / 2)) == ["no effect"]
    assert "moves 60% as much as the model alone" in told("motion", 0.3)["less motion"]
    assert "61% of its frames" in told("drift_any", 0.51 + MORE_DRIFT)["more drift"]
    assert told("drift_any", 0.49 + MORE_DRIFT) == {}
    assert "No frame" in told("drift_any", None)["no object"]
    assert "alone comes 50% nearer to the centre, with the others 24%" in told("pull", 0.49 * UNDONE)["undone"]
    assert told("pull", 1.01 * UNDONE * 0.5) == {}
    assert "101% of the way" in told("way", 1.01)["overshoot"]
    right = [replace(base.readings[0], asked="orbit", seen="orbit"), *base.readings[1:]]
    wrong = [replace(base.readings[0], asked="orbit", seen="slide"), *base.readings[1:]]
    takes = {name: replace(base, readings=tuple(wrong if name in (ALL, only(PULL)) else right)) for name in look.takes}
    assert f"motion ({ALONE}, {only(TEACHER)})" in told(takes=takes)["words lost"]
    assert told(takes=dict.fromkeys(look.takes, replace(base, readings=tuple(wrong)))) == {}  # nobody had it
    assert list(alarms(calm, {PULL: "lambda is 0"})) == ["idle"]
