"""Tucker compression: the rank tables and byte counts of the paper, orthonormal factors, the error bound, and the controls of both."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vidistill.compress import choose_ranks, core_energy, hooi, official_bytes, ranks_from_ratio, spectrum, st_hosvd
from vidistill.compress.tucker import MODES, expand, tucker_bytes, turn
from vidistill.errors import InputError

MIB = 2**20


def latents(n: int = 30, shape: tuple[int, ...] = (3, 8, 7, 6), seed: int = 0) -> torch.Tensor:
    """Latents with a decaying spectrum in every mode, as real ones have: smooth in time and space, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, *shape, generator=generator)
    for axis, size in enumerate(shape[1:], start=2):
        rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
        decay = 1 / torch.arange(1, size + 1).float()
        z = torch.tensordot(z, decay[:, None] * rotation, dims=([axis], [0])).movedim(-1, axis)
    return z / z.std() + 0.02 * torch.randn(n, *shape, generator=generator)


def residual(z: torch.Tensor, found, block: torch.Tensor | None = None) -> float:
    block = torch.zeros(len(z), dtype=torch.int64) if block is None else block
    return float((z.double() - expand(found.core, found.factors, block).double()).norm())


@pytest.mark.parametrize(
    ("shape", "r", "ranks"),
    [
        ((4, 16, 14, 14), 0.10, (1, 4, 1, 1)),
        ((4, 16, 14, 14), 0.25, (4, 4, 3, 3)),
        ((4, 16, 14, 14), 0.50, (8, 4, 7, 7)),
        ((4, 16, 14, 14), 0.75, (12, 4, 10, 10)),  # 14 * 0.75 = 10.5 -> 10
        ((4, 16, 14, 14), 1.00, (16, 4, 14, 14)),
        ((4, 8, 8, 8), 0.75, (6, 4, 6, 6)),
        ((4, 4, 14, 14), 0.75, (3, 4, 10, 10)),
        ((4, 2, 8, 8), 0.75, (1, 4, 6, 6)),  # the temporal mode collapses
    ],
)
def test_per_mode_ranks_are_the_official_table(shape, r, ranks):
    assert ranks_from_ratio(shape, r) == ranks


@pytest.mark.parametrize("r", [0.001, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0])
def test_per_parameter_ranks_keep_at_most_the_share_and_nothing_larger_is_as_even(r):
    shape = (4, 16, 14, 14)
    t, c, h, w = ranks_from_ratio(shape, r, "per-parameter")
    assert c == 4
    share = t * h * w / (16 * 14 * 14)
    assert share <= r or (t, h, w) == (1, 1, 1)
    evenness = min(t / 16, h / 14, w / 14)
    for other in itertools.product(range(1, 17), range(1, 15), range(1, 15)):
        if math.prod(other) <= r * 16 * 14 * 14:
            assert (min(other[0] / 16, other[1] / 14, other[2] / 14), math.prod(other)) <= (evenness, t * h * w)


def test_the_two_readings_differ_where_they_should():
    # r = 0.75 per mode keeps 38 % of the values; per parameter it keeps up to 75 %
    per_mode, per_parameter = (ranks_from_ratio((4, 16, 14, 14), 0.75, reading) for reading in ("per-mode", "per-parameter"))
    assert math.prod(per_mode) / 12544 == pytest.approx(0.3827, abs=1e-4)
    assert 0.70 < math.prod(per_parameter) / 12544 <= 0.75


@pytest.mark.parametrize("r", [0, -0.1, 1.0001, float("nan"), float("inf"), True, "0.5", None])
def test_a_ratio_outside_its_limits_is_refused_with_limits_and_source(r):
    with pytest.raises(InputError, match=r"\(0, 1\].*2504\.17132") as error:
        ranks_from_ratio((4, 16, 14, 14), r)
    assert "\n" not in str(error.value)


def test_an_unknown_reading_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'per-mode'"):
        ranks_from_ratio((4, 16, 14, 14), 0.5, "per-modes")


@pytest.mark.parametrize(
    ("n", "shape", "chunk", "mib"),
    [
        (1200, (4, 16, 14, 14), None, 27.47),  # MiniUCF, the number in the paper
        (1200, (4, 16, 14, 14), 400, 23.81),  # MiniUCF, what the shipped code stores
        (1224, (4, 16, 14, 14), None, 28.13),
        (1224, (4, 16, 14, 14), 400, 24.25),
        (4176, (4, 16, 14, 14), None, 142.99),  # SSv2, the number in the paper
        (4176, (4, 16, 14, 14), 400, 82.71),
        (9600, (4, 8, 8, 8), None, 383.2),
        (9600, (4, 8, 8, 8), 400, 46.30),
    ],
)
def test_official_bytes_match_the_published_storage(n, shape, chunk, mib):
    digits = 1 if mib == 383.2 else 2
    assert round(official_bytes(n, shape, ranks_from_ratio(shape, 0.75), chunk) / MIB, digits) == mib


@pytest.mark.parametrize(
    ("n", "shape", "mib"), [(1200, (4, 16, 14, 14), 21.97), (1224, (4, 16, 14, 14), 22.41), (4176, (4, 16, 14, 14), 76.47)]
)
def test_without_the_sample_factor_the_core_is_all_there_is(n, shape, mib):
    ours = tucker_bytes(shape, ranks_from_ratio(shape, 0.75), [n], itemsize=4, factor_itemsize=4)
    assert round(ours / MIB, 2) == mib


def test_the_sample_factor_is_the_waste_the_spec_names():
    """5.49 MiB (20 %) of MiniUCF and 66.5 MiB (46.5 %) of SSv2 are an N x N matrix that truncates nothing."""
    for n, waste, share in ((1200, 5.49, 0.20), (4176, 66.5, 0.465)):
        assert n * n * 4 / MIB == pytest.approx(waste, abs=0.05)
        assert n * n * 4 / official_bytes(n, (4, 16, 14, 14), (12, 4, 10, 10), None) == pytest.approx(share, abs=0.002)


def test_turn_is_a_mode_product_and_three_turns_restore_the_layout():
    z, block = latents(70), torch.arange(70) % 3  # more clips than one step
    bases = [torch.randn(3, size, rank) for size, rank in ((8, 5), (7, 4), (6, 2))]
    x = z
    for basis in bases:
        x = turn(x, basis, block)
    expected = torch.einsum("ncthw,nta,nhb,nwd->ncabd", z, *(basis[block] for basis in bases))
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_factors_are_orthonormal_and_the_error_equals_what_was_discarded(groups):
    z, block = latents(90), torch.arange(90) % groups
    found = st_hosvd(z, (5, 4, 3), block)
    for mode, rank in zip(MODES, (5, 4, 3), strict=True):
        u = found.factors[mode]
        assert u.shape == (groups, z.shape[2 + MODES.index(mode)], rank)
        torch.testing.assert_close(u.mT @ u, torch.eye(rank).expand(groups, rank, rank), rtol=0, atol=2e-6)
    error = residual(z, found, block)
    assert 0 < error <= math.sqrt(found.discarded) * (1 + 1e-4)
    assert error == pytest.approx(math.sqrt(found.discarded), rel=1e-4)


def test_the_error_is_at_most_sqrt_of_the_discarded_mode_eigenvalues_of_the_whole_tensor():
    z, ranks = latents(), (5, 4, 3)
    tails = [
        float(torch.linalg.svdvals(z.movedim(axis, 0).flatten(1).double())[rank:].square().sum())
        for axis, rank in zip((2, 3, 4), ranks, strict=True)
    ]
    error = residual(z, st_hosvd(z, ranks))
    assert math.sqrt(max(tails)) * (1 - 1e-5) <= error <= math.sqrt(sum(tails))  # no Tucker of these ranks beats the largest tail


@pytest.mark.parametrize("groups", [1, 3])
def test_full_rank_is_lossless(groups):
    z, block = latents(), torch.arange(30) % groups
    assert residual(z, st_hosvd(z, z.shape[2:], block), block) < 2e-6 * float(z.norm())


def test_an_exactly_low_rank_latent_is_recovered_at_its_rank():
    core = torch.randn(20, 2, 3, 2, 2)
    factors = {
        mode: torch.linalg.qr(torch.randn(size, rank))[0][None] for mode, size, rank in zip(MODES, (8, 7, 6), (3, 2, 2), strict=True)
    }
    z = expand(core, factors, torch.zeros(20, dtype=torch.int64))
    assert residual(z, st_hosvd(z, (3, 2, 2))) < 1e-5 * float(z.norm())


def test_a_basis_for_each_class_is_the_class_compressed_alone():
    z, block = latents(40), torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))
    together = st_hosvd(z, (4, 3, 3), block)
    for group in range(3):
        alone = st_hosvd(z[block == group], (4, 3, 3))
        torch.testing.assert_close(together.factors["T"][group], alone.factors["T"][0], rtol=0, atol=1e-4)
        torch.testing.assert_close(together.core[block == group], alone.core, rtol=0, atol=1e-3)


def test_half_precision_and_strided_latents_are_read_in_place():
    z = latents(20)
    strided = z.permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4)
    torch.testing.assert_close(st_hosvd(strided, (4, 3, 3)).core, st_hosvd(z, (4, 3, 3)).core)
    assert residual(z.half().float(), st_hosvd(z.half(), z.shape[2:])) < 1e-5 * float(z.norm())


@pytest.mark.parametrize("ranks", [(6, 5, 4), (4, 3, 3), (8, 3, 2)])
def test_st_hosvd_is_within_one_percent_of_hooi(ranks):
    z = latents()
    ours, theirs = residual(z, st_hosvd(z, ranks)), residual(z, hooi(z, ranks))
    assert ours <= 1.01 * theirs
    assert theirs <= 1.01 * ours  # and HOOI, started from the HOSVD, is no worse either


def test_hooi_leaves_the_backend_of_tensorly_alone_in_its_thread_and_in_all_others():
    import tensorly

    def own_backend() -> str:
        tensorly.set_backend("pytorch", local_threadsafe=True)
        hooi(latents(5), (6, 5, 4))
        return tensorly.get_backend()

    def backend_of_a_new_thread() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(tensorly.get_backend).result()

    tensorly.set_backend("numpy")
    hooi(latents(5), (6, 5, 4))
    assert (tensorly.get_backend(), backend_of_a_new_thread()) == ("numpy", "numpy")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(own_backend).result() == "pytorch"
    assert backend_of_a_new_thread() == "numpy"


def test_hooi_is_tensorly():
    import tensorly
    from tensorly.decomposition import tucker

    z, block = latents(25), torch.arange(25) // 10
    found = hooi(z, (6, 5, 4), block)
    assert found.factors["N"].shape == (100 + 100 + 25,)
    assert found.factors["C"].shape == (3, 3, 3)
    with tensorly.backend_context("pytorch"):
        decomposition = tucker(z[10:20].transpose(1, 2).contiguous(), rank=[10, 6, 3, 5, 4])
        theirs = tensorly.tucker_to_tensor(decomposition).transpose(1, 2)
    ours = expand(found.core, found.factors, block)[10:20]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert residual(z, found, block) ** 2 == pytest.approx(found.discarded, rel=1e-3)


def test_hooi_does_not_draw_from_global_randomness():
    """With fewer values per clip than clips the sample factor must be completed; tensorly would use numpy's global generator."""
    import numpy as np

    z = latents(20, (1, 8, 7, 6))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = hooi(z, (1, 1, 1)), hooi(z, (1, 1, 1))
    assert first.factors["N"].shape == (400,)
    assert torch.equal(first.core, second.core)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_spectrum_is_the_squared_singular_values_of_each_unfolding():
    z = latents(80)
    found = spectrum(z)
    for axis, mode in zip((2, 3, 4), MODES, strict=True):
        squares = torch.linalg.svdvals(z.movedim(axis, 0).flatten(1).double()).square()
        torch.testing.assert_close(torch.tensor(found[mode], dtype=torch.float64), squares / squares.sum(), rtol=1e-4, atol=1e-7)
        assert sum(found[mode]) == pytest.approx(1)
    assert all(type(value) is float for values in found.values() for value in values)


def test_core_energy_sums_to_the_norm_and_prices_every_truncation():
    z = latents(40)
    energy = core_energy(z)
    assert float(energy.sum()) == pytest.approx(float(z.norm()) ** 2, rel=1e-5)
    full = st_hosvd(z, z.shape[2:])
    for t, h, w in ((1, 1, 1), (3, 4, 2), (8, 7, 6)):
        cut = {mode: u[..., :rank] for (mode, u), rank in zip(full.factors.items(), (t, h, w), strict=True)}
        z_hat = expand(full.core[..., :t, :h, :w].contiguous(), cut, torch.zeros(40, dtype=torch.int64))
        assert float((z - z_hat).norm()) ** 2 == pytest.approx(float(energy.sum() - energy[:t, :h, :w].sum()), rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("budget", [3 * 30 * 4 + 84, 2_000, 9_000, 30_000, 10**9])
def test_chosen_ranks_are_the_best_of_all_triples_that_fit(budget):
    z = latents()
    energy = core_energy(z)

    def cost(t, h, w):
        return tucker_bytes((3, 8, 7, 6), (t, 3, h, w), [30], itemsize=4, factor_itemsize=4)

    ranks = choose_ranks(energy, budget, cost)
    assert cost(*ranks) <= budget
    kept = {
        triple: float(energy[: triple[0], : triple[1], : triple[2]].sum())
        for triple in itertools.product(range(1, 9), range(1, 8), range(1, 7))
    }
    assert kept[ranks] == pytest.approx(max(kept[triple] for triple in kept if cost(*triple) <= budget), rel=1e-9)


def test_equal_errors_take_the_fewest_bytes():
    energy = torch.zeros(4, 4, 4, dtype=torch.float64)
    energy[:2, :1, :3] = 1  # exactly of rank (2, 1, 3)
    assert choose_ranks(energy, 10**6, lambda t, h, w: t * h * w) == (2, 1, 3)


def test_a_budget_below_rank_one_says_the_minimum():
    with pytest.raises(InputError, match=r"budget of 99 bytes is too small: rank \(1, 1, 1\) alone needs 100 bytes"):
        choose_ranks(torch.ones(2, 2, 2, dtype=torch.float64), 99, lambda t, h, w: 100 * t * h * w)


def test_signs_are_fixed_so_that_flipped_latents_have_the_same_basis():
    z = latents()
    for mode, u in st_hosvd(z, (5, 4, 3)).factors.items():
        assert (u.gather(1, u.abs().argmax(1, keepdim=True)) > 0).all()
        torch.testing.assert_close(st_hosvd(-z, (5, 4, 3)).factors[mode], u)
