"""The measures of guidance on clips where they are known."""

import math
from dataclasses import dataclass

import pytest
import torch

from vidistill.errors import InputError
from vidistill.measure.guided import clipped, diversity, entropy, hits, pace, signs, spikes, turning, way


def some(seed: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 4, 8, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_way_is_the_share_gone_whatever_lies_aside() -> None:
    twin, centre = some(0), some(1)
    for share in (-0.5, 0.0, 0.4, 1.0, 1.3):
        torch.testing.assert_close(way(twin + share * (centre - twin), twin, centre), torch.full((3,), share))
    line, aside = (centre - twin).flatten(1), some(2).flatten(1)
    aside = (aside - (aside * line).sum(1, True) / line.square().sum(1, True) * line).view_as(twin)
    torch.testing.assert_close(way(twin + 0.4 * (centre - twin) + aside, twin, centre), torch.full((3,), 0.4))
    assert not way(some(3), twin, twin).any()


def test_way_of_one_frame() -> None:
    twin, centre = some(0), some(1)
    x = twin.clone()
    x[:, :, 2] = centre[:, :, 2]
    by_frame = torch.stack([way(*(z[:, :, [f]] for z in (x, twin, centre))) for f in range(8)], 1)
    torch.testing.assert_close(by_frame, torch.eye(8)[2].expand(3, 8))


def test_hits_count_the_centres_of_the_class_only() -> None:
    centres, classes = some(0, 4), torch.tensor([0, 0, 1, 1])
    labels, own = torch.tensor([0, 1, 1]), torch.tensor([0, 3, 2])
    x = torch.stack([centres[0], centres[3], 0.9 * centres[3] + 0.1 * centres[2]])
    assert hits(x, labels, own, centres, classes).tolist() == [True, True, False]
    near = torch.cdist(centres[2].flatten()[None], centres[:2].flatten(1)).argmin(1)
    assert hits(centres[[2]], torch.tensor([0]), near, centres, classes).all()  # centre 2 itself is of another class


def test_pace_and_diversity() -> None:
    video = torch.zeros(2, 3, 4, 8, 8, dtype=torch.uint8)
    video[1, :, 2:] = 200
    assert pace(video).tolist() == [[0, 0, 0], [0, 200, 0]]
    x = torch.zeros(4, 4, 8, 2, 2)
    x[1] += 3
    assert diversity(x, torch.tensor([0, 0, 1, 1])) == pytest.approx(1.5)  # classes count alike: 3 and 0
    assert math.isnan(diversity(x[:2], torch.tensor([0, 1])))


def test_spikes_are_cuts() -> None:
    x = torch.arange(8.0).view(1, 1, 8, 1, 1).repeat(2, 3, 1, 4, 4)
    x[1, :, 4:] += 4
    assert spikes(x, [3]).tolist() == [1, 5]
    for wrong in ([], [7], [-1], range(7)):
        with pytest.raises(InputError, match="7 transitions"):
            spikes(x, wrong)


def test_turning_entropy_clipped() -> None:
    features = torch.zeros(2, 8, 4)
    features[:, :, 0] = 1
    features[1, 6:] = torch.tensor([0.0, 1, 0, 0])
    torch.testing.assert_close(turning(features), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(entropy(torch.tensor([[0.0, 0.0, 0.0], [99.0, 0.0, 0.0]])), torch.tensor([math.log(3), 0.0]))
    video = torch.full((1, 3, 2, 8, 8), 128, dtype=torch.uint8)
    video[:, :, 0] = torch.tensor([0, 255], dtype=torch.uint8).repeat(4)
    assert clipped(video).tolist() == [0.5]


def test_signs_of_real_clips_themselves_are_a_hundred_percent() -> None:
    real, classes = some(0, 6), torch.tensor([0, 0, 0, 1, 1, 1])
    found = signs(real, classes, real, classes)
    assert found.pop("hits") is None
    assert all(value == pytest.approx(100, abs=1e-3) for value in found.values())


def test_signs_tell_stills_copies_and_wanderers() -> None:
    real, classes = some(0, 6), torch.tensor([0, 0, 0, 1, 1, 1])
    still = real.mean(2, keepdim=True).expand_as(real)
    assert signs(still, classes, real, classes)["pace"] == 0
    same = real[[0, 0, 0, 3, 3, 3]]
    found = signs(same, classes, real, classes)
    assert found["diversity"] == 0
    assert signs(real + 10, classes, real, classes)["gap"] > 500
    alone = signs(real[[0, 3]], classes[[0, 3]], real, classes)
    assert alone["diversity"] is None


def test_signs_count_hits() -> None:
    @dataclass
    class Centred:
        z: torch.Tensor
        labels: torch.Tensor

    centres = Centred(some(1, 4), torch.tensor([0, 0, 1, 1]))
    own = torch.tensor([0, 1, 2, 3])
    x = centres.z + 0.01
    real, classes = some(0, 6), torch.tensor([0, 0, 0, 1, 1, 1])
    assert signs(x, centres.labels, real, classes, own, centres)["hits"] == 100
    assert signs(x, centres.labels, real, classes, own.flip(0).roll(2), centres)["hits"] == 0
