"""k-DPP: brute force over all subsets, sampler frequencies, no overflow, one generator per class; greedy MAP against the naive argmax."""

import itertools
import math

import pytest
import torch

from vidistill.rng import stream
from vidistill.select.dpp import greedy_map, log_esp, marginals, sample_kdpp, spectrum
from vidistill.select.kernels import class_grams, kernel


def random_kernel(n, seed, rank=None):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, rank or n, generator=g, dtype=torch.float64)
    return x @ x.T


def padded(*kernels):
    n = max(len(L) for L in kernels)
    batch = torch.zeros(len(kernels), n, n, dtype=torch.float64)
    for slot, L in zip(batch, kernels, strict=True):
        slot[: len(L), : len(L)] = L
    return batch, torch.arange(n) < torch.tensor([len(L) for L in kernels])[:, None]


def enumerate_kdpp(L, k):
    """All k-subsets and their exact probabilities."""
    subsets = list(itertools.combinations(range(len(L)), k))
    weights = torch.stack([torch.linalg.det(L[list(s)][:, list(s)]) for s in subsets])
    return subsets, weights / weights.sum()


def test_log_esp_against_enumeration():
    values = torch.rand(2, 6, dtype=torch.float64) + 0.1
    table = log_esp(values.log(), 4).exp()
    for g, m, j in itertools.product(range(2), range(7), range(5)):
        want = sum(math.prod(c) for c in itertools.combinations(values[g, :m].tolist(), j))
        assert table[g, m, j].item() == pytest.approx(want)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_marginals_against_brute_force(k):
    kernels = [random_kernel(n, n) for n in (5, 8, 6)]
    found = marginals(*padded(*kernels), k)
    for row, L in zip(found, kernels, strict=True):
        subsets, probability = enumerate_kdpp(L, k)
        want = torch.zeros(8, dtype=torch.float64)
        for subset, p in zip(subsets, probability, strict=True):
            want[list(subset)] += p
        torch.testing.assert_close(row, want, rtol=1e-8, atol=1e-10)


def test_sampler_frequencies_match_the_subset_probabilities_and_the_marginals():
    kernels, k, draws = [random_kernel(6, 1), random_kernel(7, 2)], 3, 20_000
    L, mask = padded(*kernels)
    picks = sample_kdpp(L, mask, k, [stream(0, "test", g) for g in range(2)], draws).sort(-1).values
    assert (picks.diff(dim=-1) > 0).all()
    for g, L_g in enumerate(kernels):
        subsets, probability = enumerate_kdpp(L_g, k)
        code = (picks[g] * torch.tensor([64, 8, 1])).sum(-1)
        seen = torch.tensor([(code == s[0] * 64 + s[1] * 8 + s[2]).sum() for s in subsets])
        chi2 = ((seen - draws * probability) ** 2 / (draws * probability)).sum().item()
        dof = len(subsets) - 1
        assert chi2 < dof + 4 * math.sqrt(2 * dof)  # about 4 sigma; a sampler of uniform subsets misses it by thousands
        frequency = torch.bincount(picks[g].flatten(), minlength=7) / draws
        assert (frequency - marginals(L, mask, k)[g]).abs().max() < 4 * 0.5 / math.sqrt(draws)


def test_identity_kernel_gives_uniform_subsets():
    n, k, draws = 7, 3, 20_000
    off = torch.full((n, n), 7e-22, dtype=torch.float64)
    picks = sample_kdpp((off + torch.eye(n))[None], torch.ones(1, n, dtype=torch.bool), k, [stream(0, "identity")], draws)[0]
    code = (2**picks).sum(-1)
    seen = torch.bincount(code, minlength=2**n)[[sum(2**i for i in s) for s in itertools.combinations(range(n), k)]]
    expected = draws / math.comb(n, k)
    assert ((seen - expected) ** 2 / expected).sum().item() < 34 + 4 * math.sqrt(2 * 34)
    torch.testing.assert_close(
        marginals(torch.eye(n, dtype=torch.float64)[None], torch.ones(1, n, dtype=torch.bool), k)[0], torch.full((n,), k / n).double()
    )


def test_the_official_kernel_keeps_near_duplicates_as_often_as_chance_and_the_median_kernel_does_not():
    """Spec 5.1 (1): N = 100, D = 12,544, rank-60 factors and noise, one near-duplicate pair, k = 24."""
    n, k, draws = 100, 24, 1000
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 60, generator=g) @ torch.randn(60, 12544, generator=g) + torch.randn(n, 12544, generator=g)
    x[1] = x[0] + 3.3 * torch.randn(12544, generator=g)
    grams = class_grams(x, torch.zeros(n, dtype=torch.int64))
    together = {}
    for name in ("official", "rbf-median"):
        picks = sample_kdpp(kernel(grams, name), grams.mask, k, [stream(0, name)], draws)[0]
        inclusion = torch.bincount(picks.flatten(), minlength=n) / draws
        together[name] = ((picks == 0).any(-1) & (picks == 1).any(-1)).double().mean().item()
        if name == "official":
            chi2 = ((inclusion - k / n) ** 2 / (k / n * (1 - k / n) / draws)).sum().item()
            assert abs(chi2 - (n - 1)) < 4 * math.sqrt(2 * n)  # the spread of uniform subsets, neither more nor less
    chance = k * (k - 1) / (n * (n - 1))
    assert abs(together["official"] - chance) < 4 * math.sqrt(chance / draws)
    assert together["rbf-median"] < chance / 2


def test_a_class_draws_the_same_alone_and_among_others():
    kernels = [random_kernel(n, n) for n in (9, 14, 9)] + [torch.eye(11, dtype=torch.float64) + 1e-22]
    together = sample_kdpp(*padded(*kernels), 5, [stream(3, "kdpp", g) for g in range(4)])
    for g, L in enumerate(kernels):
        assert sample_kdpp(*padded(L), 5, [stream(3, "kdpp", g)])[0].equal(together[g])


def test_draws_are_reproducible_and_seeded():
    L, mask = padded(random_kernel(30, 0))
    first, again, other = (sample_kdpp(L, mask, 10, [stream(seed, "kdpp")]) for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_no_overflow_where_the_plain_table_overflows():
    n, k = 1500, 400
    assert math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) > math.log(1e308)
    values = torch.zeros(1, n, dtype=torch.float64)
    log_binomial = log_esp(values, k)[0, n, k].item()
    assert log_binomial == pytest.approx(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1), rel=1e-10)
    eye, mask = torch.eye(n, dtype=torch.float64)[None], torch.ones(1, n, dtype=torch.bool)
    torch.testing.assert_close(marginals(eye, mask, k)[0], torch.full((n,), k / n, dtype=torch.float64))
    assert len(set(sample_kdpp(eye, mask, k, [stream(0, "big")])[0, 0].tolist())) == k


def test_beyond_the_rank_and_taking_everything():
    L, mask = padded(random_kernel(10, 0, rank=4), random_kernel(8, 1))
    picks = sample_kdpp(L, mask, 8, [stream(0, "rank", g) for g in range(2)])[:, 0]
    assert all(len(set(row)) == 8 for row in picks.tolist())
    assert picks[1].max() < 8
    torch.testing.assert_close(marginals(L, mask, 8).sum(-1), torch.full((2,), 8.0, dtype=torch.float64))


def test_duplicates_are_not_drawn_together():
    x = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[5] = x[2]
    L = torch.exp(-(torch.cdist(x, x) ** 2) / 8)[None]
    picks = sample_kdpp(L, torch.ones(1, 12, dtype=torch.bool), 4, [stream(0, "twins")], 2000)[0]
    assert not ((picks == 5).any(-1) & (picks == 2).any(-1)).any()


def test_spectrum_rebuilds_the_kernel():
    L, mask = padded(random_kernel(9, 0), random_kernel(6, 1))
    values, vectors = spectrum(L, mask)
    torch.testing.assert_close((vectors * values.exp()[:, None]) @ vectors.mT, L)


def test_greedy_map_is_the_naive_argmax_of_logdet():
    kernels = [random_kernel(n, n) for n in (12, 20, 9)]
    found = greedy_map(*padded(*kernels), 7).tolist()
    for picks, L in zip(found, kernels, strict=True):
        naive: list[int] = []
        for _ in range(7):
            gains = [-math.inf if i in naive else torch.logdet(L[[*naive, i]][:, [*naive, i]]).item() for i in range(len(L))]
            naive.append(max(range(len(L)), key=gains.__getitem__))
        assert picks == naive


def test_greedy_map_on_a_singular_kernel_stays_distinct():
    picks = greedy_map(*padded(random_kernel(10, 0, rank=3)), 10)[0].tolist()
    assert sorted(picks) == list(range(10))
