"""One row of numbers for a set of clips: means of what the tables say, shares in percent, None where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vidistill.data.world import FACTORS, factors, render
from vidistill.errors import InputError
from vidistill.measure import clips
from vidistill.measure.clips import NUMBERS, clip_numbers, frame_features
from vidistill.measure.offline import probe_subject
from vidistill.measure.truth import consistency_table

WANTED = [replace(factors(9, i), shape=shape, colour=colour) for i, (shape, colour) in enumerate([("star", "red"), ("ring", "purple")] * 2)]


@pytest.fixture(scope="module")
def video():
    return render(WANTED, 16, 64)


def test_they_are_means_of_the_tables(video) -> None:
    found, table = clip_numbers(video, WANTED, rare="star, purple"), consistency_table(video, WANTED)
    assert tuple(found) == NUMBERS
    assert found["subject"] == pytest.approx(float(table["probe_subject_consistency"].mean()))
    assert found["flow"] == pytest.approx(float(table["probe_flow_magnitude"].mean()))
    assert found["moving"] == pytest.approx(100 * float(table["probe_dynamic_degree"].mean()))
    assert found["drift"] == pytest.approx(100 * float(table["drift_any"].nanmean()))
    assert found["motion"] == pytest.approx(float(table["motion"].nanmean()))
    assert found["together"] == pytest.approx(100 * float(table["fidelity_together"].mean()))
    assert found["fidelity"] == pytest.approx(20 * sum(float(table[f"fidelity_{name}"].mean()) for name in FACTORS))
    assert found["fidelity_shape"] == pytest.approx(100 * float(table["fidelity_shape"].mean()))


def test_rare_asks_each_word_of_its_own_factor(video) -> None:
    asked = [replace(row, colour="white") if row.colour == "purple" else row for row in WANTED]
    table = consistency_table(video, WANTED)
    stars = float(table["fidelity_shape"][[0, 2]].mean())
    purples = float(table["fidelity_colour"][[1, 3]].mean())
    assert clip_numbers(video, WANTED, rare="star")["rare"] == pytest.approx(100 * stars)
    assert clip_numbers(video, WANTED, rare=" star ,purple ")["rare"] == pytest.approx(50 * (stars + purples))
    assert clip_numbers(video, asked, rare="purple")["rare"] is None
    assert clip_numbers(video, WANTED)["rare"] is None


def test_without_truth_there_is_none(video) -> None:
    found = clip_numbers(video)
    assert found["subject"] is not None
    assert all(found[name] is None for name in ("drift", "motion", "motion_error", "fidelity", "fidelity_shape", "rare"))


def test_a_still_picture_wins_every_consistency_and_loses_its_motion(video) -> None:
    live, still = clip_numbers(video, WANTED), clip_numbers(video[:, :, :1].expand(-1, -1, 16, -1, -1), WANTED)
    for name in ("subject", "background", "smoothness", "flicker"):
        assert still[name] == pytest.approx(1)
        assert live[name] < still[name]
    assert still["flow"] == pytest.approx(0, abs=1e-6)
    assert still["motion"] == pytest.approx(0, abs=1e-6)
    assert live["motion"] > 0.5


def test_the_real_vbench_takes_over_where_it_is(video, monkeypatch) -> None:
    seen = []

    def run(clips, program):
        seen.append(program)
        return {dimension: torch.full((len(clips),), 0.25, dtype=torch.float64) for dimension in clips_dimensions}

    clips_dimensions = tuple(clips.VBENCH.values())
    monkeypatch.setattr(clips, "run_vbench", run)
    found = clip_numbers(video, vbench="vbench-env/bin/vbench")
    assert seen == ["vbench-env/bin/vbench"]
    assert (found["subject"], found["moving"], found["quality"]) == (0.25, 25.0, 0.25)
    assert found["flow"] == clip_numbers(video)["flow"]


def test_features_by_name() -> None:
    assert frame_features("probe_subject") is probe_subject
    assert frame_features("lab-probe")(torch.zeros(1, 3, 2, 64, 64, dtype=torch.uint8)).shape[:2] == (1, 2)
    with pytest.raises(InputError, match="nowhere holds no network"):
        frame_features("nowhere")
