"""Coresets against brute force and by what they guarantee."""

import itertools

import pytest
import torch

from vidistill.rng import stream
from vidistill.select.coresets import group_random, herding, k_center, kmeans_medoids, random
from vidistill.select.kernels import class_grams


@pytest.fixture
def clips():
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 10 + [1] * 14)
    return torch.randn(24, 6, generator=g), labels


def distances(x):
    return torch.cdist(x.double(), x.double())


def radius(x, picks):
    return distances(x)[:, picks].min(1).values.max().item()


def test_k_center_starts_at_the_mean_is_farthest_first_and_within_twice_the_best(clips):
    x, labels = clips
    picks = k_center(class_grams(x, labels, standardize=False), 4).tolist()
    for label, row in enumerate(picks):
        own = x[labels == label]
        assert row[0] == (own - own.mean(0)).norm(dim=1).argmin()
        for step in range(1, 4):
            assert row[step] == distances(own)[:, row[:step]].min(1).values.argmax()
        best = min(radius(own, list(s)) for s in itertools.combinations(range(len(own)), 4))
        assert best <= radius(own, row) <= 2 * best + 1e-6


def test_herding_is_the_naive_greedy_on_the_mean(clips):
    x, labels = clips
    picks = herding(class_grams(x, labels, standardize=False), 6).tolist()
    for label, row in enumerate(picks):
        own = x[labels == label].double()
        naive: list[int] = []
        for _ in range(6):
            error = [float("inf") if i in naive else (own[[*naive, i]].mean(0) - own.mean(0)).norm().item() for i in range(len(own))]
            naive.append(min(range(len(own)), key=error.__getitem__))
        assert row == naive


def test_k_means_picks_one_clip_of_each_planted_cluster():
    pytest.importorskip("faiss")
    g = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(2, 5, 300, generator=g)
    x = (centres[:, :, None] + torch.randn(2, 5, 8, 300, generator=g)).flatten(0, 2)
    grams = class_grams(x, torch.arange(2).repeat_interleave(40), standardize=False)
    picks = kmeans_medoids(grams, 5, [stream(0, "k-means", g) for g in range(2)])
    assert (picks // 8).sort().values.equal(torch.arange(5).expand(2, 5))
    assert picks.equal(kmeans_medoids(grams, 5, [stream(0, "k-means", g) for g in range(2)]))
    for label, row in enumerate(picks.tolist()):  # the medoid of a planted cluster is its clip nearest to the mean
        for i in row:
            own = x[label * 40 : label * 40 + 40].view(5, 8, 300)[i // 8]
            assert i % 8 == (own - own.mean(0)).norm(dim=1).argmin()


def test_k_means_stays_distinct_with_duplicates_and_k_equal_n():
    pytest.importorskip("faiss")
    x = torch.zeros(9, 4)
    x[:3] = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    grams = class_grams(x, torch.zeros(9, dtype=torch.int64), standardize=False)
    for k in (6, 9):
        assert len(set(kmeans_medoids(grams, k, [stream(0, "k-means")])[0].tolist())) == k


def test_random_is_uniform_without_replacement():
    draws = torch.stack([random(8, 3, stream(seed, "test")) for seed in range(4000)])
    assert (draws.sort(1).values.diff(dim=1) > 0).all()
    frequency = torch.bincount(draws.flatten(), minlength=8) / 4000
    assert (frequency - 3 / 8).abs().max() < 4 * 0.5 / 4000**0.5


def test_group_random_serves_every_video_before_a_second_clip():
    groups = ["g1"] * 6 + ["g2"] * 2 + ["g3"] + ["", ""]
    for seed in range(20):
        picks = group_random(groups, 5, stream(seed, "test")).tolist()
        assert len({groups[i] or i for i in picks}) == 5
        assert sorted(group_random(groups, 11, stream(seed, "test")).tolist()) == list(range(11))
