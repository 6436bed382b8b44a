"""The walkthrough of few steps runs headless, and what it leaves is what the specifications say of each loss."""

import pytest
from lax import run_lax


@pytest.mark.slow
def test_learn_few_step(tmp_path):
    """Its own checks are the test; here is what a reader takes home (dfd.md 4.2, 4.3, 5.4 to 5.6; accvideo.md 5.2, 5.5)."""
    found = run_lax("learn/few_step.ipynb", tmp_path, {"live": False})
    assert found["first"]["teacher, 50 Euler"]["precision"] >= 93
    assert found["trap"]["kd, Euler"]["kl"] > 5 * found["trap"]["kd, re-noised"]["kl"]
    assert found["identity"] < 1e-5
    assert found["stands"]["deviation s: Eq. 8 to the letter"]["w = 0.5"]["0.01"] == pytest.approx(2**0.5, abs=0.01)
    assert found["slide"][0] > 100 > found["slide"][-1]  # unpaired: through the truth and on
    assert found["gain"]["DMD + SFT"]["kl"] < -0.1  # the control does what DFD does
