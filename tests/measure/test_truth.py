"""The table of clips whose truth is known."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from vidistill.data.parse import parse
from vidistill.data.world import MOTIONS, factors, render
from vidistill.errors import InputError
from vidistill.measure import truth
from vidistill.measure.features import load_features
from vidistill.measure.generated import average, drift, fidelity

WANTED = [factors(8, i) for i in range(12)]


def test_path_length_by_hand():
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    x = torch.tensor([[0.0, 0.3, 0.3]])
    y = torch.tensor([[0.0, 0.4, 0.4]])
    assert truth.path_length(x, y, one, zero).item() == pytest.approx(0.5)
    assert truth.path_length(zero, zero, torch.tensor([[1.0, 1.2, 1.0]]), zero).item() == pytest.approx(0.4 / math.sqrt(2))
    turn = torch.tensor([[0.1, -0.1 + 2 * math.pi, 0.1]])  # the short way round
    assert truth.path_length(zero, zero, 2 * one, turn).item() == pytest.approx(2 * 2 * 0.2 / math.sqrt(2), abs=1e-6)
    seen = torch.tensor([[True, True, False]])
    assert truth.path_length(x, y, one, zero, seen).item() == pytest.approx(1.0)  # the step that is seen stands for both
    assert math.isnan(truth.path_length(x, y, one, zero, torch.tensor([[True, False, True]])).item())


def test_real_clips_are_what_was_asked_for():
    video = render(WANTED)
    table = truth.consistency_table(video, WANTED)
    assert all(value.shape == (12,) and value.dtype == torch.float64 and value.device.type == "cpu" for value in table.values())
    assert set(table) == {
        *("probe_subject_consistency", "probe_background_consistency", "probe_motion_smoothness", "probe_dynamic_degree"),
        *("probe_flow_magnitude", "probe_imaging_quality", "temporal_flickering"),
        *("drift_shape", "drift_colour", "drift_background", "drift_any"),
        *("motion", "motion_wanted", "motion_error", "camera_error"),
        *(f"fidelity_{name}" for name in ("motion", "shape", "colour", "background", "camera", "together")),
    }
    parsed = parse(video)
    torch.testing.assert_close(table["drift_any"], drift(parsed)["any"], equal_nan=True)
    for name, share in fidelity(parsed.records(), WANTED).items():
        assert table[f"fidelity_{name}"].mean().item() == pytest.approx(share["mean"])
    assert table["motion_error"].nanmedian() < 0.02
    assert table["camera_error"].median() < 0.05
    assert average(table["motion_error"])["low"] >= 0


def test_every_motion_is_measured():
    for kind in MOTIONS:
        wanted = [factors(8, i, motion=kind) for i in range(4)]
        table = truth.truth_table(render(wanted), wanted)
        assert table["motion_error"].median() < 0.05 * max(1.0, float(table["motion_wanted"].mean())), kind


def test_lost_motion_is_an_error_of_its_size():
    wanted = [factors(8, i, motion="orbit") for i in range(6)]
    still = render(wanted)[:, :, :1].expand(-1, -1, 16, -1, -1).contiguous()
    table = truth.truth_table(still, wanted)
    assert table["motion"].max() < 0.01
    torch.testing.assert_close(table["motion_error"], table["motion_wanted"], atol=0.01, rtol=0)
    errors = []
    for times in (1, 2, 4, 8):
        slow = render(wanted, frames=15 * times + 1)[:, :, :16]
        errors.append(truth.truth_table(slow, wanted)["motion_error"].mean())
    assert all(a < b for a, b in pairwise(errors))


def test_a_wrong_camera_is_an_error_of_its_size():
    wanted = [replace(factors(8, i, camera="pan-left"), pace=1.0) for i in range(6)]
    other = render([replace(clip, camera="pan-right") for clip in wanted])
    assert truth.truth_table(other, wanted)["camera_error"].median() == pytest.approx(1.2, abs=0.1)  # 2 * 0.6 half widths


def test_a_changed_object_drifts_and_is_not_what_was_asked_for():
    wanted = [factors(8, i, motion="slide", colour="red") for i in range(4)]
    other = render([replace(clip, colour="blue") for clip in wanted])
    video = torch.cat([render(wanted)[:, :, :4], other[:, :, 4:]], 2)
    table = truth.truth_table(video, wanted)
    assert table["drift_colour"].tolist() == pytest.approx([0.25] * 4)
    assert table["fidelity_colour"].tolist() == [0] * 4


def test_nothing_to_see_has_no_numbers_of_the_object():
    wanted = WANTED[:2]
    table = truth.truth_table(torch.full((2, 3, 8, 64, 64), 60, dtype=torch.uint8), wanted)
    assert table["motion"].isnan().all()
    assert table["motion_error"].isnan().all()
    assert table["fidelity_shape"].tolist() == [0, 0]


def test_other_features_have_columns_of_their_own():
    wanted = WANTED[:2]
    table = truth.video_table(render(wanted), features={**truth.PROBES, "lab-probe": load_features("lab-probe")})
    assert {"probe_subject_consistency", "lab-probe_consistency"} <= set(table)
    assert 0.5 < table["lab-probe_consistency"].min() <= table["lab-probe_consistency"].max() <= 1


def test_bad_input_is_one_line():
    video = render(WANTED[:2])
    with pytest.raises(InputError, match=r"^one set of factors a clip is needed: 2 clips, 3 sets of factors$"):
        truth.truth_table(video, WANTED[:3])
    with pytest.raises(InputError, match=r"T >= 3; got torch.uint8"):
        truth.video_table(video[:, :, :2])
    with pytest.raises(InputError, match="cannot parse"):
        truth.truth_table(video[:, :, :3], WANTED[:2])
