"""The measures of points among modes, on points whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from vidistill.data.plane import Plane, grid, quadrants, two_points
from vidistill.errors import InputError
from vidistill.measure.modes import (
    held,
    leakage,
    misleads,
    mode_coverage,
    mode_kl,
    mode_shares,
    mode_table,
    pair_distance,
    pair_diversity,
    precision,
    radius_ratio,
    sliced_w2,
    within_std,
)


def world(means: list[list[float]], labels: list[int] | None = None, deviation: float = 0.1) -> Plane:
    k = len(means)
    classes = torch.tensor(labels or [0] * k)
    return Plane("by hand", torch.tensor(means, dtype=torch.float64), deviation, classes, torch.full((k,), 1 / k, dtype=torch.float64))


SQUARE = world([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
FOUR = world([[1.0, 0.0], [2.2, 0.0], [-1.0, 0.0], [-2.2, 0.0]], [0, 0, 1, 1])
GRID = grid()


def at(*counts: int, modes: Plane = SQUARE) -> torch.Tensor:
    """Return so many points exactly at each mode."""
    return modes.means.repeat_interleave(torch.tensor(counts), dim=0)


def drawn(modes: Plane, each: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = modes.means.repeat(each, 1)
    return x + spread * modes.deviation * torch.randn(x.shape, generator=generator)


def test_shares_coverage_and_kl() -> None:
    shares = mode_shares(at(5, 3, 2, 0), SQUARE)
    assert shares.tolist() == [0.5, 0.3, 0.2, 0]
    assert mode_coverage(shares, SQUARE) == 0.75
    assert mode_kl(shares, SQUARE) == pytest.approx(sum(p * math.log(4 * p) for p in (0.5, 0.3, 0.2)))
    assert mode_kl(mode_shares(at(2, 2, 2, 2), SQUARE), SQUARE) == 0
    assert mode_kl(mode_shares(at(7, 0, 0, 0), SQUARE), SQUARE) == pytest.approx(math.log(4))


def test_a_fifth_of_the_true_share_is_coverage() -> None:
    assert mode_coverage(mode_shares(at(7, 6, 6, 1), SQUARE), SQUARE) == 1  # 1 of 20 is a fifth of 1 of 4
    assert mode_coverage(mode_shares(at(8, 7, 6, 1), SQUARE), SQUARE) == 0.75  # 1 of 22 is less


def test_rare_modes_count_by_their_own_share() -> None:
    rare = SQUARE.weighted([49, 30, 20, 1])
    points = at(498, 300, 200, 2)
    assert mode_coverage(mode_shares(points, rare), rare) == 1  # .002 of .01
    assert mode_coverage(mode_shares(points, SQUARE), SQUARE) == 0.75
    exact = at(49, 30, 20, 1)
    assert mode_kl(mode_shares(exact, rare), rare) == pytest.approx(0, abs=1e-9)
    assert mode_kl(mode_shares(exact, SQUARE), SQUARE) > 0.2


def test_precision_is_within_four_deviations() -> None:
    centre = SQUARE.means[:1]
    points = torch.cat([centre + torch.tensor([[d, 0.0]]) for d in (0.0, 0.39, -0.39, 0.41)])
    assert precision(points, SQUARE) == 0.75
    assert precision(torch.zeros(3, 2), SQUARE) == 0


def test_the_radius_is_saturation() -> None:
    truth = drawn(GRID, 40)
    assert radius_ratio(1.25 * truth, truth) == pytest.approx(1.25)
    assert radius_ratio(truth, torch.zeros(4, 2)) is None


def test_width_is_measured_about_each_modes_own_mean() -> None:
    pair = torch.tensor([[0.05, 0.0], [-0.05, 0.0]])
    points = (SQUARE.means[:, None] + pair).flatten(0, 1)
    assert within_std(points, SQUARE) == pytest.approx(0.5)  # sqrt(2 * .05^2 / (2 dimensions * 1)) / .1
    assert within_std(points * 1.1, SQUARE) == pytest.approx(0.55)  # the modes have moved by 1.4 sigma, the pairs grown by a tenth
    assert within_std(torch.cat([points, torch.zeros(50, 2)]), SQUARE) == pytest.approx(0.5)  # points between modes are not in them
    assert within_std(at(1, 1, 1, 1), SQUARE) is None
    for spread in (0.5, 1.0, 1.2):
        assert within_std(drawn(GRID, 400, spread=spread), GRID) == pytest.approx(spread, rel=0.02)


def test_diversity_is_a_ratio_within_classes() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0]])
    assert pair_distance(line) == pytest.approx(2)  # (1 + 3 + 2) / 3
    assert pair_distance(line[:1]) is None
    assert pair_diversity(2 * line, line) == pytest.approx(2)
    labels = torch.tensor([0, 0, 1])
    assert pair_distance(line, labels) == pytest.approx(1)  # class 1 has one point
    both, classes = torch.cat([line, 100 + 3 * line]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert pair_distance(both, classes) == pytest.approx(4)  # classes count alike: 2 and 6
    assert pair_diversity(line, torch.zeros(3, 1)) is None
    many = drawn(GRID, 200)  # 5000 points: some are drawn
    assert pair_diversity(many, drawn(GRID, 60, seed=1)) == pytest.approx(1, abs=0.03)


def test_sliced_distance_of_a_shift() -> None:
    truth = drawn(GRID, 20)
    assert sliced_w2(truth, truth) == 0
    assert sliced_w2(truth + torch.tensor([3.0, 4.0]), truth) == pytest.approx(5 / math.sqrt(2), rel=1e-6)  # mean of (u v)^2 is |v|^2 / 2
    shuffled = truth[torch.randperm(len(truth), generator=torch.Generator().manual_seed(1))]
    assert sliced_w2(shuffled, truth) == 0


def test_sliced_distance_of_samples_of_other_sizes_is_exact() -> None:
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0]])
    assert sliced_w2(a, a.repeat(3, 1)) == 0
    assert sliced_w2(a, b) == pytest.approx(math.sqrt(0.1))  # a tenth of the mass moves by 1
    assert sliced_w2(b, a) == pytest.approx(math.sqrt(0.1))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 3, generator=generator), torch.randn(90, 3, generator=generator)
    assert sliced_w2(x, y) == pytest.approx(sliced_w2(x.repeat(3, 1), y.repeat(2, 1)), rel=1e-9)  # the same measures
    assert sliced_w2(x, y) == pytest.approx(sliced_w2(y, x), rel=1e-9)


def test_a_point_of_another_class_holds_nothing() -> None:
    points = torch.tensor([[1.0, 0.0], [2.2, 0.0], [-1.0, 0.0], [-2.2, 0.0]])
    right, wrong = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0])
    assert held(points, FOUR, right).tolist() == [0, 1, 2, 3]
    assert held(points, FOUR, wrong).tolist() == [0, 1, 2, -1]
    assert held(points, FOUR).tolist() == [0, 1, 2, 3]
    assert (leakage(points, FOUR, right), leakage(points, FOUR, wrong)) == (0, 0.25)
    assert (precision(points, FOUR, right), precision(points, FOUR, wrong), precision(points, FOUR)) == (1, 0.75, 1)
    shares = mode_shares(points, FOUR, wrong)
    assert shares.tolist() == [0.25, 0.25, 0.25, 0]
    assert mode_coverage(shares, FOUR) == 0.75
    assert mode_kl(shares, FOUR) == pytest.approx(math.log(4 / 3))
    lost = mode_shares(points, FOUR, 1 - right)
    assert (mode_coverage(lost, FOUR), mode_kl(lost, FOUR), within_std(points, FOUR, 1 - right)) == (0, None, None)


def test_the_truth_itself_has_the_numbers_of_the_truth() -> None:
    found = mode_table(drawn(GRID, 320), drawn(GRID, 320, seed=1), GRID)
    assert (found["coverage"], found["kl"]) == (1, pytest.approx(0, abs=1e-9))
    assert found["precision"] == pytest.approx(1 - math.exp(-8), abs=1e-3)
    for name in ("radius", "within", "diversity"):
        assert found[name] == pytest.approx(1, abs=0.03), name
    assert found["sliced_w2"] < 0.02
    assert "leakage" not in found
    assert not misleads(found)


def test_a_table_has_every_number_as_each_gives_it() -> None:
    points, truth = drawn(FOUR, 50, spread=1.3), drawn(FOUR, 50, seed=1)
    labels = FOUR.labels.repeat(50)
    asked = labels.roll(1)
    found = mode_table(points, truth, FOUR, asked, labels)
    shares = mode_shares(points, FOUR, asked)
    assert found == {
        "coverage": mode_coverage(shares, FOUR),
        "kl": mode_kl(shares, FOUR),
        "precision": precision(points, FOUR, asked),
        "radius": radius_ratio(points, truth),
        "within": within_std(points, FOUR, asked),
        "diversity": pair_diversity(points, truth, asked, labels),
        "sliced_w2": sliced_w2(points, truth),
        "leakage": leakage(points, FOUR, asked),
    }
    assert found["leakage"] == 0.5


def test_points_too_far_out_look_diverse() -> None:
    """The trap of DFD's spec, 5.4: inner modes dropped, radius up, and pairwise diversity above 1."""
    outer = GRID.means.abs().amax(1) > 2
    kept = world(GRID.means[outer].tolist(), deviation=0.08)
    found = mode_table(1.02 * drawn(kept, 100), drawn(GRID, 100), GRID)
    assert found["coverage"] == pytest.approx(16 / 25)
    assert found["diversity"] > 1.1
    assert found["radius"] > 1.2
    assert misleads(found)
    assert not misleads(found | {"diversity": 0.9})
    assert not misleads(found | {"coverage": 1.0})


def euler(plane: Plane, steps: int, scale: float = 1.0) -> dict[str, float | None]:
    """Return the numbers of the exact field's Euler sampler with guidance."""
    generator = torch.Generator().manual_seed(0)
    truth, labels = plane.draw(4000, generator)
    x = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    for j in range(steps, 0, -1):
        v = plane.velocity(x, j / steps, labels)
        if scale != 1:
            u = plane.velocity(x, j / steps)
            v = u + scale * (v - u)
        x = x - v / steps
    return mode_table(x, truth, plane, labels, labels)


def test_the_numbers_are_those_of_the_spec() -> None:
    """Rows of DFD's spec that need no training, 5.4 and 5.6; there the field is learned, here it is exact."""
    for steps, want in (
        (50, {"coverage": 1.0, "kl": 0.003, "radius": 0.98, "diversity": 0.99}),
        (4, {"coverage": 0.98, "kl": 0.201, "precision": 0.64, "radius": 0.75, "within": 1.35, "diversity": 0.78}),
    ):
        found = euler(GRID, steps)
        assert {name: found[name] for name in want} == pytest.approx(want, abs=0.06)
        assert found["kl"] == pytest.approx(want["kl"], abs=0.03)
    for scale, want in (
        (1.5, {"coverage": 1.0, "precision": 0.99, "kl": 0.08, "radius": 1.15, "diversity": 0.98}),
        (2.0, {"coverage": 1.0, "precision": 1.0, "kl": 0.27, "radius": 1.28, "diversity": 0.92}),
        (3.0, {"coverage": 0.5, "precision": 1.0, "kl": 0.62, "radius": 1.40}),
    ):
        found = euler(quadrants(), 50, scale)
        assert {name: found[name] for name in want} == pytest.approx(want, abs=0.04)
        assert found["leakage"] == 0


def test_bad_input_is_said() -> None:
    with pytest.raises(InputError, match=r"2 of 4 points are not finite"):
        precision(torch.tensor([[0.0, 0.0], [math.nan, 0.0], [0.0, math.inf], [1.0, 1.0]]), SQUARE)
    with pytest.raises(InputError, match=r"points \(0, 2\) do not fit"):
        held(torch.zeros(0, 2), SQUARE)
    with pytest.raises(InputError, match="do not fit modes in 2 dimensions"):
        mode_table(torch.zeros(4, 3), torch.zeros(4, 2), SQUARE)
    with pytest.raises(InputError, match=r"truth \(4, 3\)"):
        mode_table(torch.zeros(4, 2), torch.zeros(4, 3), SQUARE)
    with pytest.raises(InputError, match="of the points and of the truth, or of neither"):
        mode_table(torch.zeros(4, 2), torch.zeros(4, 2), FOUR, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="4 points need as many labels"):
        held(torch.zeros(4, 2), FOUR, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"no mode is of class 7; classes are \[0, 1\]"):
        precision(torch.zeros(1, 2), FOUR, torch.tensor([7]))
    with pytest.raises(InputError, match="two-points have no width"):
        precision(torch.zeros(4, 1), two_points())
    assert precision(torch.tensor([[3.0], [-2.9]]), two_points(deviation=0.02)) == 0.5
