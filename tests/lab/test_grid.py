"""A grid: values that fit a knob, the same seeds in every cell, differences seed by seed, failures that stay in their cell, cancel."""

import math

import pytest
import torch

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab.grid import CLIPS, GridLook, cells, grid_steps, line_of, paper_value, parse_values, values_of
from vidistill.lab.previews import Preview
from vidistill.lab.steps import Step
from vidistill.lab.videoguide_session import GUIDED, KNOBS, VideoGuideSession, presets
from vidistill.measure import paired

BETA = Knob("beta", 0.5, "weight", low=0, high=1, step=0.05, source="paper")
TAU = Knob("tau", 5, "evaluations", low=1, high=9)
WAY = Knob("way", "cfg", "how", choices=("cfg", "cfg++", "apg"))
NOW = {"prompt": "a star", "beta": 0.5, "tau": 5, "seed": 7}


def plan(xs=(0.0, 0.5), ys=(1, 5, 9), seeds=(7, 8, 9)):
    return cells(NOW, "beta", list(xs), "tau", list(ys), list(seeds))


def made_by(log, fails=None, steps=2):
    """Return a run that writes down what it was asked, and fails where it is told to."""

    def run(settings):
        try:
            for k in range(steps):
                log.append((settings["beta"], settings["tau"], settings["seed"], k))
                yield Step("step", k + 1, steps)
            if fails and fails(settings):
                raise InputError("tau does not fit:\nless of it")
            yield Step("preview", 1, 1, Preview("clip", 1, 2, 0, torch.zeros(3, 2, 2)))
            yield Step("done", 1, 1, dict(settings))
        finally:
            log.append("closed")

    return run


def clip_of(look):
    return torch.full((3, 4, 8, 8), int(100 * look["beta"]) + look["tau"] + look["seed"], dtype=torch.uint8)


def numbers_of(look):
    noise = {7: 0.3, 8: -0.2, 9: 0.1}[look["seed"]]
    return {"score": 10 * look["beta"] + look["tau"] + noise, "drift": None if look["tau"] == 1 else 0.25, "odd": math.nan}


def whole(steps):
    *_, last = steps
    return last.result


# ------------------------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("knob", "asked", "wanted"),
    [
        (BETA, {}, [0.0, 0.5, 1.0]),
        (BETA, {"count": 5}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (BETA, {"around": 0.3}, [0.0, 0.3, 1.0]),
        (BETA, {"around": 0.3, "paper": 0.9}, [0.0, 0.3, 0.9]),
        (BETA, {"around": 0.3, "paper": 2.5}, [0.0, 0.3, 1.0]),
        (BETA, {"around": 1.0, "paper": 0.0}, [0.0, 0.5, 1.0]),
        (BETA, {"around": 0.3, "count": 1}, [0.3]),
        (TAU, {}, [1, 5, 9]),
        (TAU, {"count": 4}, [1, 4, 6, 9]),
        (Knob("few", 0, "few", low=0, high=1), {}, [0, 1]),
        (Knob("lam", 0.8, "scale", low=0, open_low=True, high=2, step=0.05), {"around": 0.8}, [0.05, 0.8, 2.0]),
        (Knob("steps", 20, "steps", low=1), {"around": 20}, [1, 20, 40]),
        (Knob("any", 0.0, "any"), {}, [-0.01, 0.0, 0.01]),
        (WAY, {"around": "apg"}, ["cfg", "cfg++", "apg"]),
        (Knob("on", True, "whether"), {}, [False, True]),
        (Knob("words", "a", "text"), {"around": "b"}, ["b"]),
    ],
)
def test_values_fit_the_knob_and_hold_those_of_now_and_of_the_paper(knob, asked, wanted):
    found = values_of(knob, **asked)
    assert found == wanted
    assert [knob.check(value) for value in found] == found
    assert parse_values(knob, line_of(found)) == found


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_every_knob_of_a_session_gets_values_that_can_be_read_again(knob):
    found = values_of(knob, around=knob.default, paper=paper_value(KNOBS, knob.name))
    assert knob.default in found
    assert parse_values(knob, line_of(found)) == found


def test_the_papers_value_is_that_of_its_preset():
    paper = presets()["paper"]
    assert {name: paper_value(KNOBS, name) for name in KNOBS} == {name: paper[name] for name in KNOBS}
    assert any(paper[name] != knob.default for name, knob in KNOBS.items())
    assert paper_value(Knobs("zoo", BETA), "beta") is None


@pytest.mark.parametrize(
    ("knob", "text", "line"),
    [
        (BETA, "0.1, 1.4", r"knob beta=1.4 is not allowed: it must be a number in \[0, 1\] \(paper\)"),
        (BETA, "0.1; 0.3", r"knob beta='0.1; 0.3' is not allowed"),
        (BETA, "0.1, 0.30, 0.3", "knob beta has the value 0.3 twice"),
        (BETA, " , ", "knob beta has no values; write some with commas between them, e.g. 0, 0.5, 1"),
        (TAU, "2.5", "knob tau='2.5' is not allowed: it must be a whole number"),
        (WAY, "cfg, cgf++", r"did you mean 'cfg\+\+'"),
    ],
)
def test_bad_values_are_one_clear_line(knob, text, line):
    with pytest.raises(InputError, match=line) as caught:
        parse_values(knob, text)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------------- cells


def test_every_cell_has_the_same_seeds_and_only_its_knobs_differ():
    found = plan()
    assert [(one.row, one.column, one.turned) for one in found[:3]] == [
        (0, 0, {"beta": 0.0, "tau": 1}),
        (0, 1, {"beta": 0.5, "tau": 1}),
        (1, 0, {"beta": 0.0, "tau": 5}),
    ]
    assert {one.seeds for one in found} == {(7, 8, 9)}
    assert [one.name for one in found if one.now] == ["cell 2, 2"]
    assert found[3].asked(8) == NOW | {"seed": 8}
    assert NOW["beta"] == 0.5


def test_without_a_knob_down_there_is_one_row():
    found = cells(NOW, "tau", [1, 2, 5], None, [], [7])
    assert [(one.row, one.column, one.turned) for one in found] == [(0, k, {"tau": tau}) for k, tau in enumerate((1, 2, 5))]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("beta", [0.1], "beta", [0.2], [0]), "both across and down"),
        (("beta", [0.1], "tua", [1], [0]), "did you mean 'tau'"),
        (("beta", [k / 10 for k in range(5)], "tau", [1, 2, 3, 4], [0, 1]), f"4 x 5 cells with 2 seeds each are 40 clips; .* 1 to {CLIPS}"),
        (("beta", [], "tau", [1], [0]), "are 0 clips"),
    ],
)
def test_a_grid_that_cannot_be_is_one_clear_line(arguments, line):
    with pytest.raises(InputError, match=line):
        cells(NOW, *arguments)


# -------------------------------------------------------------------------------------------------------------------- runs


def test_the_first_seed_of_every_cell_comes_first_and_each_clip_is_a_result():
    log, plans = [], plan()
    steps = list(grid_steps(plans, made_by(log), clip_of, numbers_of))
    results = [step for step in steps if step.result is not None]
    assert [(step.done, step.total) for step in results] == [(k, 18) for k in range(1, 19)]
    assert [len(step.result.clips) for step in results] == [*range(1, 7), *[6] * 12]
    assert [one[2] for one in log if one != "closed"] == [seed for seed in (7, 8, 9) for _ in range(12)]
    assert log.count("closed") == 18
    assert {step.stage for step in steps} == {"clips"}


def test_clips_are_of_the_first_seed_and_numbers_of_all():
    look = whole(grid_steps(plan(), made_by([]), clip_of, numbers_of))
    assert (look.knobs, look.columns, look.rows, look.seeds) == (("beta", "tau"), [0.0, 0.5], [1, 5, 9], (7, 8, 9))
    assert all(
        int(look.clips[one.cell.row, one.cell.column][0, 0, 0, 0]) == int(clip_of(one.cell.asked(7))[0, 0, 0, 0]) for one in look.made
    )
    assert look.made[3].look == NOW
    assert look.names == ["score", "drift", "odd"]
    assert all(one.seconds > 0 for one in look.made)


def test_differences_are_paired_with_the_cell_of_now():
    look = whole(grid_steps(plan(), made_by([]), clip_of, numbers_of))
    first, now = look.made[0], look.made[3]
    mine, base = ([numbers["score"] for numbers in one.numbers] for one in (first, now))
    wanted, found = paired(mine, base), look.worth(first, "score")
    assert (found.difference, found.low, found.high, found.n) == (wanted["mean"], wanted["low"], wanted["high"], 3)
    assert found.difference == pytest.approx(-9)  # the noise of a seed is the same in both
    assert found.high - found.low < 1e-9
    assert look.worth(now, "score").difference is None
    assert look.worth(now, "score").mean == pytest.approx(10 + 0.2 / 3)
    assert look.worth(first, "drift") == look.worth(first, "odd") == type(found)()  # a number that is none is no number
    assert look.worth(look.made[2], "drift").difference == 0
    assert "differences are to cell 2, 2" in look.told()


def test_two_seeds_have_a_difference_and_no_interval():
    found = (look := whole(grid_steps(plan(seeds=(7, 8)), made_by([]), clip_of, numbers_of))).worth(look.made[0], "score")
    assert (found.difference, found.low, found.high) == (pytest.approx(-9), None, None)


def test_a_grid_without_the_settings_of_now_says_so():
    look = whole(grid_steps(plan(xs=(0.1, 0.2), seeds=(7,)), made_by([]), clip_of, numbers_of))
    assert look.worth(look.made[0], "score").difference is None
    assert "no cell has the page's own settings" in look.told()


def test_a_failure_stays_in_its_cell():
    log = []
    look = whole(grid_steps(plan(seeds=(7, 8)), made_by(log, lambda k: k["tau"] == 9 and k["beta"] == 0), clip_of, numbers_of))
    failed = look.made[4]
    assert failed.error == "tau does not fit: less of it"
    assert (failed.clip, failed.numbers) == (None, ())
    assert [len(one.numbers) for one in look.made] == [2, 2, 2, 2, 0, 2]
    assert (0.0, 9, 8, 0) not in log  # what failed is not tried with the next seed
    assert look.told().startswith("10 of 12 clips made, 1 of 6 cells failed; seeds 7 to 8")


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (lambda settings: iter(()), "the run gave no clip"),
        (lambda settings: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_bad_input_is_named(run, line):
    look = whole(grid_steps(plan(seeds=(7,)), run, clip_of, numbers_of))
    assert {one.error for one in look.made} == {line}
    assert look.clips == {}


def test_closing_cancels_within_a_step_and_what_was_made_is_kept():
    log, kept = [], None
    steps = grid_steps(plan(seeds=(7,)), made_by(log, steps=50), clip_of, numbers_of)
    for step in steps:
        kept = step.result or kept
        if len(log) == 60:  # the second cell is under way
            break
    steps.close()
    assert (len(log), log[-1]) == (61, "closed")
    assert len(kept.clips) == 1
    assert kept.told().startswith("1 of 6 clips made; seed 7")


def test_it_waits_for_another_run_and_can_be_cancelled_meanwhile():
    log, other = [], [True]
    steps = grid_steps(plan(seeds=(7,)), made_by(log), clip_of, numbers_of, lambda: other[0])
    assert {next(steps).stage for _ in range(3)} == {"waits for the page's own run; clips"}
    assert log == []
    other[0] = False
    assert next(steps).stage == "clips"
    assert log == [(0.0, 1, 7, 0)]
    other[0] = True
    assert next(steps).stage.startswith("waits")
    steps.close()
    assert log == [(0.0, 1, 7, 0), "closed"]


# ----------------------------------------------------------------------------------------------------------------- session


def test_the_cells_of_a_session_are_its_own_clips(tiny_dit, tiny_unet):
    session = VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet})
    few = KNOBS.resolve({"sampling_steps": 3, "guidance": 2.0, "guided": 2, "tau": 1, "points": 3})
    asked = {"prompt": "a red star orbiting over a navy background", "base": "unet", "teacher": "dit", **few, "seed": 3}

    def run(settings):
        who = [settings[name] for name in ("prompt", "base", "teacher")]
        return session.steps(*who, {name: settings[name] for name in KNOBS}, seed=settings["seed"], previews=False)

    found = cells(asked, "beta", [0.2, few["beta"]], "tau", [1, 50], [3, 4])
    look = whole(grid_steps(found, run, lambda look: look.clips[GUIDED], lambda look: {"motion": look.numbers["motion"][GUIDED]}))
    assert isinstance(look, GridLook)
    assert sorted(look.clips) == [(0, 0), (0, 1)]
    for made, beta in zip(look.made, (0.2, few["beta"]), strict=False):
        alone = VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet}).look(asked["prompt"], "unet", "dit", few | {"beta": beta}, seed=3)
        assert torch.equal(made.clip, alone.clips[GUIDED])
        assert [numbers.keys() for numbers in made.numbers] == [{"motion"}] * 2
    assert "tau" in look.made[2].error
    assert look.made[1].look.remembered == ("base alone", "teacher alone")  # what the session knew was not sampled again
