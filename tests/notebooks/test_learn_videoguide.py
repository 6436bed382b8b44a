"""The walkthrough of VideoGuide runs headless, and the numbers that it leaves are those of the specification."""

import pytest
from lax import run_lax


@pytest.mark.slow
def test_learn_videoguide(tmp_path):
    """Its own checks are the test; here is what a reader takes home, as the specification of VideoGuide has it (2.3 to 2.8)."""
    found = run_lax("learn/videoguide.ipynb", tmp_path, {"videos": 2, "steps": 6, "tau": 4})
    assert found["w"]["AnimateDiff, N 50"] == pytest.approx([7.08, 7.21, 7.34, 7.47, 7.61], abs=0.02)
    assert found["w"]["rectified flow, N 50"] == pytest.approx([0.80, 1.57, 2.30, 3.01, 3.68], abs=0.006)
    assert found["cfg++ identity"] < 1e-12
    assert found["modes"] == {"0.125": 45, "0.25": 483}
    assert found["variance"] == pytest.approx({"0.125": 0.999, "0.25": 0.992, "0.5": 0.939}, abs=5e-4)
    assert found["inner"]["self, tau 4"] == [999, 957, 916, 874]
    assert found["clips"]["self"]["evaluations"] == 2 * (6 + 2 * 4)  # N + I tau, with and without the prompt
    assert found["clips"]["FreeInit x5"]["evaluations"] == 2 * 5 * 6
    still = found["scored"]["hold frame 0"]
    assert still["probe_subject_consistency"] == max(row["probe_subject_consistency"] for row in found["scored"].values())
    assert still["probe_flow_magnitude"] < 1e-3
    assert found["plane"]["beta 0.5"]["10"]["hit"] > 0.8 > 0.2 > found["plane"]["beta 0.5, weight zero"]["10"]["hit"]
