"""Kernels: distances against the definition, positive semi-definiteness, what each kernel promises, the official one as identity."""

import pytest
import torch

from vidistill.errors import InputError
from vidistill.select.kernels import KERNELS, class_grams, diagnostics, feature_scale, kernel


def features(counts, dim=40, seed=0, offset=0.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    scale = torch.rand(dim, generator=g) * 5 + 0.1
    return torch.randn(len(labels), dim, generator=g) * scale + offset, labels


def structured(n=100, dim=12544, rank=60, seed=0):
    """Latents as in spec 5.1 (1): low-rank factors plus noise."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, rank, generator=g) @ torch.randn(rank, dim, generator=g) + torch.randn(n, dim, generator=g)


def test_feature_scale_is_that_of_standard_scaler():
    x, _ = features([70, 81], offset=30.0)
    x[:, 3] = 7.25
    want = 1 / x.double().std(0, correction=0)
    want[3] = 1
    torch.testing.assert_close(feature_scale(x).double(), want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_distances_match_the_definition(shuffled):
    x, labels = features([7, 12, 1], offset=100.0)
    if shuffled:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
        x, labels = x[order], labels[order]
    grams = class_grams(x, labels)
    y = x.double() / x.double().std(0, correction=0)
    for g, label in enumerate(grams.labels.tolist()):
        rows = (labels == label).nonzero().squeeze(1)
        n = len(rows)
        assert grams.index[g, :n].equal(rows)
        assert grams.mask[g].sum() == n
        want = (y[rows][:, None] - y[rows]).square().sum(-1)
        torch.testing.assert_close(grams.squared_distances()[g, :n, :n], want, rtol=1e-4, atol=1e-4)
    assert (grams.squared_distances().diagonal(dim1=1, dim2=2) == 0).all()


def test_without_standardising_the_distances_are_raw():
    x, labels = features([9])
    want = (x[:, None] - x).double().square().sum(-1)
    torch.testing.assert_close(class_grams(x, labels, standardize=False).squared_distances()[0], want, rtol=1e-4, atol=1e-4)


def test_duplicates_in_high_dimension_have_distance_zero():
    x = structured(20)
    x[7] = x[3]
    x[8] = x[3] + 1e-3
    squared = class_grams(x, torch.zeros(20, dtype=torch.int64), standardize=False).squared_distances()[0]
    assert squared[7, 3] < 1e-8
    assert squared[8, 3].item() == pytest.approx(12544e-6, rel=1e-2)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_symmetric_positive_semidefinite_and_padded_with_zeros(name):
    x, labels = features([5, 11, 2, 1])
    grams = class_grams(x, labels)
    groups = torch.arange(11).div(3, rounding_mode="floor").repeat(4, 1)
    L = kernel(grams, name, 0.7, groups)
    assert L.equal(L.mT)
    assert torch.linalg.eigvalsh(L).min() > -1e-6  # the Gram matrix comes from float32 products
    assert (L[~grams.mask] == 0).all()
    assert (L.diagonal(dim1=1, dim2=2)[grams.mask] > 0).all()
    assert L.isfinite().all()


def test_official_and_median_kernels_by_hand():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    grams = class_grams(x, torch.zeros(3, dtype=torch.int64), standardize=False)
    d = (x - x.T).abs().double()[None]
    torch.testing.assert_close(kernel(grams, "official"), torch.exp(-d), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(kernel(grams, "rbf-median", 0.5), torch.exp(-(d**2) / (2 * (0.5 * 2.0) ** 2)), rtol=1e-6, atol=1e-6)


def test_quality_favours_clips_near_the_class_mean_and_keeps_the_similarity():
    x, labels = features([15])
    grams = class_grams(x, labels)
    L, S = kernel(grams, "quality-diversity")[0], kernel(grams, "rbf-median")[0]
    assert L.diagonal().argsort(descending=True).equal(grams.norms[0].argsort())
    q = L.diagonal().sqrt()
    torch.testing.assert_close(L / (q[:, None] * q), S)


def test_group_aware_raises_similarity_inside_a_video_only():
    x, labels = features([24])
    groups = torch.arange(24).div(4, rounding_mode="floor")[None]
    L, S = (kernel(class_grams(x, labels), name, groups=groups)[0] for name in ("group-aware", "rbf-median"))
    same = (groups[0][:, None] == groups[0]) & ~torch.eye(24, dtype=torch.bool)
    assert L[same].min() > 0.9 > S[same].max()
    assert L[same].min() > L[groups[0][:, None] != groups[0]].max()


def test_official_kernel_is_the_identity_on_latents_and_the_median_kernel_is_not():
    grams = class_grams(structured(), torch.zeros(100, dtype=torch.int64))
    official = diagnostics(kernel(grams, "official"), grams.mask)
    assert official["identity"]
    assert 0 < official["largest_off_diagonal"] < 1e-20
    assert official["effective_rank"] == pytest.approx(100)
    assert (torch.linalg.eigvalsh(kernel(grams, "official")) - 1).abs().max() < 1e-14
    ours = diagnostics(kernel(grams, "rbf-median"), grams.mask)
    assert not ours["identity"]
    assert ours["largest_off_diagonal"] > 0.5
    assert ours["per_class"][0]["clips"] == 100


def test_effective_rank_limits():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    L = torch.stack([torch.ones(3, 3), torch.diag(torch.tensor([4.0, 9.0, 0.0]))]).double()
    found = diagnostics(L, mask)["per_class"]
    assert [row["effective_rank"] for row in found] == pytest.approx([1, 2])
    assert [row["identity"] for row in found] == [False, True]


def test_bad_input_is_one_clear_line():
    grams = class_grams(*features([4]))
    with pytest.raises(InputError, match=r"unknown kernel 'rbf-medan'.*did you mean 'rbf-median'"):
        kernel(grams, "rbf-medan")
    with pytest.raises(InputError, match="bandwidth=0"):
        kernel(grams, "rbf-median", 0)
    with pytest.raises(InputError, match="group-aware"):
        kernel(grams, "group-aware")
