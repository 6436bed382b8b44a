"""The whole paper on a tiny world with tiny models: arms beside their controls, runs that resume to the same result, errors in one line."""

from __future__ import annotations

import json

import pytest
import torch

from vidistill.data import open_videos
from vidistill.data.world import write_world
from vidistill.errors import Cancelled, InputError
from vidistill.lab.presets import load_presets, preset
from vidistill.papers import videoguide
from vidistill.sample import collected

TINY = {"prompts": 3, "sampling_steps": 3, "guided": 2, "tau": 2, "points": 4, "seeds": 2, "iterations": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=3, per_class_train=1, per_class_test=1, frames=16, size=64, classes=("slide", "spin", "orbit"))
    return folder


@pytest.fixture
def go(world, tiny_unet, tiny_motion, tmp_path):
    def run(out="out", progress=lambda *_: None, **knobs):
        models = {"model": str(tiny_unet), "guide": str(tiny_motion)}
        return videoguide.run(TINY | models | knobs, open_videos(world), tmp_path / out, progress=progress)

    return run


def by_name(report):
    return {arm["name"]: arm for arm in report.arms}


def timeless(report):
    return [{name: value for name, value in arm.items() if name != "seconds"} for arm in report.arms]


def test_every_arm_stands_beside_its_controls(go, tmp_path) -> None:
    report = go()
    arms = by_name(report)
    assert set(arms) == set(videoguide.ARMS)
    json.dumps(report.as_dict(), allow_nan=False)
    for arm in arms.values():
        assert arm["score"]["n"] == arm["difference"]["n"] == arm["seconds"]["n"] == 2
        assert 0 <= arm["score"]["mean"] <= 1
        assert arm["clips"] == 3
        assert arm["fidelity_motion"]["n"] == 2
    assert arms["base"]["difference"]["mean"] == 0
    counted = {name: arm["evaluations"] for name, arm in arms.items()}
    n, more = 2 * 3, 2 * 2 * 2  # an output for the prompt and one for none: 2 N, and 2 I tau
    assert counted == {
        **dict.fromkeys(("base", "no-teacher", "base-cfg++", "cfg-zero", "apg", "teacher"), n),
        **dict.fromkeys(("method", "self", "low-pass", "no-low-pass", "cfg"), n + more),
        **{"more-steps": n + more, "freeinit": 2 * n},
    }
    assert report.score.control == "base"
    assert report.data["prompts"] == 3
    assert report.notes[0] == "the first 2 of 3 steps are guided, 7 evaluations where the model alone has 3"
    assert len(list((tmp_path / "out" / "clips" / "method").glob("*.mp4"))) == 3


def test_limits_are_the_base_bit_for_bit(go, tmp_path) -> None:
    """beta 1, or no guided step, is the model alone."""
    go(arms="method", seeds=1, guided=0)
    base = go("b", arms="base", seeds=1, beta=1.0, space=0.0, inside="cfg")
    assert by_name(base)["method"]["score"]["values"] == by_name(base)["base"]["score"]["values"]
    files = lambda out: sorted((tmp_path / out / "videos").glob("*.safetensors"))  # noqa: E731
    assert len(files("out")) == 3  # the method's clips are the base's, made once
    one, two = (collected(files(out)).sort(0).values for out in ("out", "b"))
    assert torch.equal(one.unique(dim=0), two.unique(dim=0))


def test_cancelled_anywhere_it_resumes_to_the_same_result(go, cut_at) -> None:
    steps = []
    knobs = {"arms": "freeinit, teacher", "seeds": 1, "prompts": 2}
    want = timeless(go("whole", progress=lambda *call: steps.append(call), **knobs))
    for stop in sorted({1, len(steps) // 3, 2 * len(steps) // 3, len(steps) - 2}):
        with pytest.raises(Cancelled):
            go(f"cut-{stop}", progress=cut_at(stop), **knobs)
        assert timeless(go(f"cut-{stop}", **knobs)) == want


def test_a_longer_run_makes_no_clip_again(go, tmp_path) -> None:
    go(arms="method", seeds=1)
    made = lambda: {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "videos").glob("*.safetensors")}  # noqa: E731
    before = made()
    assert len(before) == 2 * 3
    report = go(arms="method, self, no-teacher", seeds=2)
    after = made()
    assert {path: after[path] for path in before} == before
    assert len(after) == 4 * 3 * 2
    go(arms="method", seeds=1, subject="lab-probe", rare="ring")  # other numbers of the same clips
    assert made() == after
    assert by_name(report)["self"]["evaluations"] == by_name(report)["method"]["evaluations"]


def test_every_knob_of_the_method_makes_other_clips(go, tmp_path) -> None:
    changes = [{}, {"beta": 0.8}, {"guided": 1}, {"tau": 1}, {"space": 0.5}, {"lam": 0.5}, {"inside": "cfg"}, {"outside": "cfg++"}]
    changes += [{"filter": "ideal"}, {"order": 2}, {"time": 0.5}, {"t_map": "same_index"}, {"scale": 0.7}, {"guide": "self"}, {"points": 9}]
    for change in changes:
        go(arms="method", seeds=1, prompts=1, **change)
    files = list((tmp_path / "out" / "videos").glob("*.safetensors"))
    assert len(files) == 1 + len(changes)
    assert len(collected(files).unique(dim=0)) == len(files)


def test_prompts_from_a_file_have_no_truth(go, tmp_path) -> None:
    (tmp_path / "prompts.txt").write_text("orbit\na zebra on the moon\n")
    report = go(arms="method", seeds=1, prompt_file=str(tmp_path / "prompts.txt"))
    assert report.data["root"].endswith("prompts.txt")
    assert report.data["prompts"] == 2
    assert by_name(report)["method"]["drift"] is None
    assert "nobody knows what these clips should show" in report.notes[-1]


def test_what_cannot_be_is_left_out_or_refused(go, tiny_dit) -> None:
    report = go(arms="freeinit", seeds=1, model=str(tiny_dit))
    assert "freeinit" not in by_name(report)
    assert any(note.startswith("freeinit: left out, FreeInit cannot begin again") for note in report.notes)
    with pytest.raises(InputError, match="cannot guide the first I=4 steps: the sampler makes N=3"):
        go(guided=4)
    with pytest.raises(InputError, match=r"tiny-dit cannot guide tiny-unet by same_index|same_index"):
        go(guide=str(tiny_dit), t_map="same_index")
    with pytest.raises(InputError, match="knob tau=0 is not allowed"):
        go(tau=0)
    with pytest.raises(InputError, match=r"knob beta=1\.5 is not allowed"):
        go(beta=1.5)
    with pytest.raises(InputError, match=r"knob space=1\.5 is not allowed"):
        go(space=1.5)


def test_a_flow_and_a_model_of_noise_guide_each_other(go, tiny_dit, tiny_unet) -> None:
    for model, guide in ((tiny_unet, tiny_dit), (tiny_dit, tiny_unet)):
        arm = by_name(go(arms="method", seeds=1, model=str(model), guide=str(guide)))["method"]
        assert arm["evaluations"] == 2 * 3 + 2 * 2 * 2


def test_presets_are_the_readings_of_the_spec() -> None:
    read = {name: videoguide.KNOBS.resolve(preset("videoguide", name, videoguide.KNOBS)) for name in load_presets("videoguide")}
    assert set(read) == {"paper", "repo", "lavie", "self", "ours", "quick"}
    differ = {name for name in videoguide.KNOBS if read["paper"][name] != read["repo"][name]}
    assert differ == {"beta", "space", "time", "outside"}
    assert (read["paper"]["beta"], read["paper"]["space"], read["paper"]["outside"]) == (0.5, 0.25, "cfg")
    assert (read["repo"]["beta"], read["repo"]["space"], read["repo"]["outside"]) == (0.8, 0.125, "cfg++")
    for name in ("paper", "repo"):
        assert (read[name]["guided"], read[name]["tau"], read[name]["points"], read[name]["sampling_steps"]) == (5, 10, 25, 50)
    assert read["lavie"]["guided"] == 3
    assert read["self"]["guide"] == "self"


def test_the_command_writes_a_report_with_both_axes(world, tiny_unet, tmp_path, capsys) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from vidistill.lab.cli import app
    from vidistill.lab.report import SCHEMA_FILE

    knobs = TINY | {"seeds": 1, "prompts": 2, "guide": "self", "arms": "method"}
    settings = [part for name, value in knobs.items() for part in ("--set", f"{name}={value}")]
    where = ["--data", str(world), "--out", str(tmp_path / "out"), "--device", "cpu"]
    app(["run", "videoguide", *where, "--model", str(tiny_unet), *settings], standalone_mode=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(report)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Subject consistency against motion" in page
    assert "2 prompts" in page
    assert f"clips: {tmp_path / 'out' / 'clips'}" in capsys.readouterr().out.replace("\n", "")
    assert json.loads((tmp_path / "out" / "record.json").read_text())["knobs"]["guide"] == "self"
