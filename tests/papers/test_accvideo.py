"""The whole paper in the plane and on its line: arms, controls and counts; what the exact field makes of moved points."""

from __future__ import annotations

import json

import pytest
import torch

from vidistill.data.plane import two_points
from vidistill.distill.mlp import exact
from vidistill.errors import Cancelled, InputError
from vidistill.lab.presets import load_presets, preset
from vidistill.papers import accvideo, line

TINY = {"teacher_steps": 4, "teacher_batch": 16, "gate": 0.0, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8}
TINY |= {"dmd_updates": 1, "points": 100, "seeds": 2, "mismatches": "0, 3", "draws": 100, "line_steps": 3, "line_batch": 8}
TINY |= {"window_updates": 2}


@pytest.fixture
def go(tmp_path):
    def run(out="out", progress=lambda *_: None, **knobs):
        return accvideo.run(TINY | knobs, None, tmp_path / out, progress=progress)

    return run


def by_name(report):
    return {arm["name"]: arm for arm in report.arms}


def timeless(report):
    arms = [{name: value for name, value in arm.items() if name not in ("training", "sampling")} for arm in report.arms]
    return arms, report.extra


def test_every_arm_stands_beside_its_controls(go, tmp_path) -> None:
    report = go()
    arms = by_name(report)
    assert set(arms) == set(accvideo.ARMS)
    json.dumps(report.as_dict(), allow_nan=False)
    for arm in arms.values():
        assert arm["score"]["n"] == arm["difference"]["n"] == arm["coverage"]["n"] == arm["sampling"]["n"] == 2
    updates = {name: arm["updates"] for name, arm in arms.items()}
    assert updates["trajectory"] == updates["kd"] == 4
    assert updates["accvideo"] == updates["one-head"] == 2 * 4  # both losses, as often as the trajectory loss alone
    assert arms["teacher"]["evaluations"] == 50
    assert arms["kd"]["training"] == arms["kd-ode"]["training"]  # one student, two samplers
    assert arms["kd"]["sliced_w2"]["mean"] != arms["kd-ode"]["sliced_w2"]["mean"]
    far, near = report.extra.values()
    assert [row["M"] for row in far] == [row["M"] for row in near] == [0, 3]
    assert far[0]["missed exact"]["mean"] == 0
    assert near[0]["student near"]["n"] == 2
    assert len(list((tmp_path / "out" / "students").iterdir())) == 2 * 5


def test_without_an_adversary_only_its_loss_is_gone(go) -> None:
    arms = by_name(go(adversarial=0.0, seeds=1, mismatches="", arms="one-head"))
    assert arms["accvideo"]["updates"] == 4
    assert arms["accvideo"]["sliced_w2"]["values"] == arms["one-head"]["sliced_w2"]["values"]


def test_the_exact_field_gives_the_papers_panel() -> None:
    """Fig. 2 e within four points, by the reading of the spec; crossings are high without any mismatch; no point misses the data."""
    k = accvideo.KNOBS.resolve({"draws": 8000})
    found = [line.useless(exact(two_points()), m, k, 0) for m in (0, 0.75, 1.5, 2.25, 3)]
    assert [row["far"] for row in found] == pytest.approx([0.78, 6.79, 17.43, 26.93, 29.06], abs=4)
    assert [row["far"] for row in found] == sorted(row["far"] for row in found)
    assert found[0]["crossed"] == pytest.approx(9.6, abs=1)
    assert {row["missed"] for row in found} == {0}


def test_pairs_of_a_window_lie_on_the_teachers_path() -> None:
    """From noise the first window does not know the set; in the last one the exact field ends on a datum."""
    k = accvideo.KNOBS.resolve({"draws": 400})
    net = exact(two_points())
    begin, end, window = line.pairs(net, 3.0, k, 0)
    plain, _, _ = line.pairs(net, 0.0, k, 0)
    assert torch.equal(begin[window == 0], plain[window == 0])
    assert not torch.equal(begin[window == 3], plain[window == 3])
    assert (end[window == 3].abs() - 3).abs().max() < 1e-3


def test_cancelled_anywhere_it_resumes_to_the_same_result(go, cut_at) -> None:
    steps = []
    knobs = {"arms": "trajectory", "seeds": 1, "mismatches": "0"}
    want = timeless(go("whole", progress=lambda *call: steps.append(call), **knobs))
    for stop in sorted({1, len(steps) // 3, 2 * len(steps) // 3, len(steps) - 2}):
        with pytest.raises(Cancelled):
            go(f"cut-{stop}", progress=cut_at(stop), **knobs)
        assert timeless(go(f"cut-{stop}", **knobs)) == want


def test_bad_input_is_one_line(go) -> None:
    with pytest.raises(InputError, match="knob mismatches='0; 3' is not allowed: numbers with commas"):
        go(mismatches="0; 3")
    with pytest.raises(InputError, match=r"below gate=0\.93"):
        go(gate=0.93)
    with pytest.raises(InputError, match="unknown arm 'two-heads'"):
        go(arms="two-heads")


def test_presets_are_the_readings_of_the_spec() -> None:
    read = {name: accvideo.KNOBS.resolve(preset("accvideo", name, accvideo.KNOBS)) for name in load_presets("accvideo")}
    assert set(read) == {"paper", "official", "ours", "quick"}
    assert read["paper"]["adversarial"] == 0.1
    assert (read["paper"]["line_steps"], read["paper"]["line_lr"], read["paper"]["line_batch"]) == (10000, 1e-4, 2048)
    assert read["official"]["guidance"] == 1
    assert read["quick"]["mismatches"] == "0, 0.75, 1.5, 2.25, 3"


def test_the_report_fits_the_schema(go) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from vidistill.lab.report import SCHEMA, SCHEMA_FILE, html_page

    report = {"schema": SCHEMA, **json.loads(json.dumps(go().as_dict()))}
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(report)
    page = html_page(report)
    assert "Precision against modes held %" in page
    assert "useless points of the line, %" in page
