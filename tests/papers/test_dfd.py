"""The whole paper in the plane with networks that learn nothing: arms, controls, counts, runs that resume, gates, errors in one line."""

from __future__ import annotations

import json

import pytest

from vidistill.errors import Cancelled, InputError
from vidistill.lab.presets import load_presets, preset
from vidistill.papers import dfd

TINY = {"teacher_steps": 4, "teacher_batch": 16, "gate": 0.0, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8}
TINY |= {"updates": 2, "branch": 1, "student_freq": 2, "points": 100, "seeds": 2}
CLOCKS = ("training", "sampling")


@pytest.fixture
def go(tmp_path):
    def run(out="out", progress=lambda *_: None, **knobs):
        return dfd.run(TINY | knobs, None, tmp_path / out, progress=progress)

    return run


def by_name(report):
    return {arm["name"]: arm for arm in report.arms}


def timeless(report):
    return [{name: value for name, value in arm.items() if name not in CLOCKS} for arm in report.arms]


def test_every_arm_stands_beside_its_controls(go) -> None:
    report = go(world="quadrants")
    arms = by_name(report)
    assert set(arms) == set(dfd.ARMS)
    json.dumps(report.as_dict(), allow_nan=False)
    for arm in arms.values():
        assert arm["score"]["n"] == arm["difference"]["n"] == arm["precision"]["n"] == arm["leakage"]["n"] == 2
        assert 0 <= arm["score"]["mean"] <= 100
    assert arms["more-dmd"]["difference"]["mean"] == 0
    updates = {name: arm["updates"] for name, arm in arms.items()}
    branches = {name for name, (_, how, _) in dfd.ARMS.items() if how == "branch"}
    assert {updates[name] for name in (*branches, "dfd-teacher")} == {2 + 1}
    assert {updates[name] for name in ("dmd", "dmd-backsim", "dmd2", "dp-dmd")} == {2}
    assert {updates[name] for name in ("kd", "trajectory")} == {4}
    asked = {name: arm["evaluations"] for name, arm in arms.items()}
    assert (asked["teacher"], asked["teacher-few"], asked["teacher-euler"]) == (2 * 50, 2 * 4, 2 * 4)  # guided: two outputs a step
    assert asked["two-steps"] == 2
    assert {asked[name] for name in arms if not name.startswith("teacher") and name != "two-steps"} == {4}
    assert report.score.control == "more-dmd"
    assert report.data["world"] == "quadrants"
    assert report.data["guidance"] == 2


def test_branches_differ_from_more_dmd_in_what_they_change_alone(go) -> None:
    """p 0 is DMD; without guidance on the teacher, guidance off on the real branch is DFD; pairs of noise and data are shared."""
    both = go(world="quadrants", p=0.0, arms="dmd-sft, dfd-unpaired", seeds=1)
    scores = {name: (arm["score"]["values"], arm["sliced_w2"]["values"]) for name, arm in by_name(both).items()}
    assert len(set(map(str, scores.values()))) == 1
    one = by_name(go(world="quadrants", p=1.0, guidance=1.0 + 1e-9, arms="dfd-cfg1", seeds=1))
    assert one["dfd"]["sliced_w2"]["mean"] == pytest.approx(one["dfd-cfg1"]["sliced_w2"]["mean"], abs=1e-5)
    other = by_name(go(world="quadrants", p=1.0, seeds=1, arms="dfd-unpaired, dmd-sft, dfd-score, dfd-cfg1, dmd-cfg1"))
    assert len({arm["sliced_w2"]["mean"] for arm in other.values()}) == len(other)


def test_two_steps_come_from_a_checkpoint_of_two() -> None:
    k = dfd.KNOBS.resolve({})
    few, four = (dfd.arm_of(name, k, 1.0) for name in ("two-steps", "dfd"))
    assert [stage.times for stage in few.stages] == [few.times] * 2 == [(0.999, 0.5, 0.0)] * 2
    assert [stage.as_dict() | {"times": 0} for stage in few.stages] == [stage.as_dict() | {"times": 0} for stage in four.stages]


def test_without_classes_nothing_is_guided(go) -> None:
    report = go(arms="dfd-cfg1, teacher", seeds=1)
    assert set(by_name(report)) == {"dfd", "more-dmd", "teacher"}
    assert by_name(report)["teacher"]["evaluations"] == 50
    assert by_name(report)["dfd"]["leakage"] is None
    assert "dfd-cfg1: left out, nothing is guided in grid-25" in report.notes
    assert report.data["guidance"] == 1


def test_diversity_that_misleads_is_told() -> None:
    from vidistill.measure.modes import misleads

    assert misleads({"diversity": 1.2, "coverage": 0.83})
    assert not misleads({"diversity": 1.2, "coverage": 1.0})


def test_cancelled_anywhere_it_resumes_to_the_same_result(go, cut_at) -> None:
    steps = []
    knobs = {"arms": "kd, dmd2", "seeds": 1}
    want = timeless(go("whole", progress=lambda *call: steps.append(call), **knobs))
    for stop in sorted({1, len(steps) // 3, 2 * len(steps) // 3, len(steps) - 2}):
        with pytest.raises(Cancelled):
            go(f"cut-{stop}", progress=cut_at(stop), **knobs)
        assert timeless(go(f"cut-{stop}", **knobs)) == want


def test_a_longer_run_trains_nothing_again(go, tmp_path) -> None:
    go(arms="dmd", seeds=1)
    made = lambda: {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("teachers/*")}  # noqa: E731
    students = lambda: {path.name for path in (tmp_path / "out" / "students").iterdir()}  # noqa: E731
    teachers, before = made(), students()
    assert len(before) == 3  # the checkpoint and two branches
    go(arms="dmd, dfd-teacher", seeds=2)
    assert {path: made()[path] for path in teachers} == teachers
    assert len(students()) == 2 * 4
    go(arms="dmd", seeds=1, points=200)  # other numbers of other points, other students: a ground of its own
    assert made().keys() >= teachers.keys()
    assert len(made()) == 2


def test_a_teacher_that_does_not_pass_is_refused(go) -> None:
    with pytest.raises(InputError, match=r"the teacher of seed 0 has a precision of 0\.\d+ on grid-25, below gate=0\.93") as error:
        go(gate=0.93)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"knob p=1\.5 is not allowed"):
        go(p=1.5)
    with pytest.raises(InputError, match="knob world='gird-25'"):
        go(world="gird-25")
    with pytest.raises(InputError, match="unknown arm 'dfd2'"):
        go(arms="dfd2")


def test_presets_are_the_readings_of_the_spec() -> None:
    read = {name: dfd.KNOBS.resolve(preset("dfd", name, dfd.KNOBS)) for name in load_presets("dfd")}
    assert set(read) == {"paper", "official", "ours", "quick"}
    differ = {name for name in dfd.KNOBS if read["paper"][name] != read["official"][name]}
    assert differ == {"paired", "form", "dfd_gan"}
    assert (read["official"]["p"], read["official"]["dfd_gan"], read["official"]["cfg_real"]) == (0.5, 0.03, 0.0)
    assert read["paper"]["branch"] == 100 // read["paper"]["student_freq"]
    assert read["quick"]["seeds"] >= 5


def test_the_command_writes_a_report_of_points(tmp_path, capsys) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from vidistill.lab.cli import app
    from vidistill.lab.report import SCHEMA_FILE

    settings = [part for name, value in (TINY | {"arms": "teacher"}).items() for part in ("--set", f"{name}={value}")]
    app(["run", "dfd", "--out", str(tmp_path / "out"), "--device", "cpu", *settings], standalone_mode=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(report)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Mode coverage against on a mode %" in page
    assert "grid-25, 100 points an arm" in page
    assert "more-dmd" in capsys.readouterr().out
    app(["run", "dfd", "--data", str(tmp_path), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert capsys.readouterr().err == "error: paper dfd reads no videos, its world is made of points: leave out --data\n"
