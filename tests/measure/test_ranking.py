"""DD-Ranking's score at the values of the paper's formula."""

import pytest

from vidistill.errors import InputError
from vidistill.measure import lrs


def test_parity_and_a_worked_case() -> None:
    assert lrs(0, 0) == pytest.approx(0.2689, abs=5e-5)
    assert lrs(0.30, 0.05) == pytest.approx(0.2189, abs=5e-5)
    assert lrs(-1, 1) == pytest.approx(1)
    assert lrs(1, -1) == pytest.approx(0)
    assert lrs(0.3, 0.05, w=1) > lrs(0, 0) > lrs(0.3, 0.05, w=0)


@pytest.mark.parametrize("bad", [(30, 5), (0, 1.2), (-1.01, 0)])
def test_percentages_are_refused(bad) -> None:
    with pytest.raises(InputError, match="takes fractions"):
        lrs(*bad)
    with pytest.raises(InputError, match="w=2"):
        lrs(0, 0, w=2)
