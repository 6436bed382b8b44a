"""Partial Tucker compression of latents: z ~ core x_T U_T x_H U_H x_W U_W, with orthonormal factors.

The official code of "Latent Video Dataset Distillation" (arXiv 2504.17132) also decomposes the sample mode N (a stored N x N matrix that
truncates nothing) and the channel mode C; here both are absorbed into the core, which has the same size without them.

Shape legend: N clips, C channels, T H W the latent grid, r_T r_H r_W the ranks, G bases; ``block[n]`` is the basis that clip n uses.
One primitive carries everything: :func:`turn` multiplies the leading mode of every clip by its basis and moves it to the back, so that
three turns take T, H and W in order and restore the layout. No permutation is ever copied.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidistill.errors import InputError, choose

MODES = ("T", "H", "W")
READINGS = ("per-mode", "per-parameter")
OFFICIAL_CHUNK = 400  # the official code decomposes 400 consecutive clips at a time
STEP = 64  # clips per pass: small enough for the processor's cache, large enough for one batched GEMM


@dataclass(frozen=True)
class Tucker:
    """A Tucker decomposition of N clips in G blocks.

    Attributes:
        core: float32 ``[N, C, r_T, r_H, r_W]``.
        factors: ``"T" [G, T, r_T]``, ``"H" [G, H, r_H]``, ``"W" [G, W, r_W]``; HOOI adds ``"C" [G, C, C]`` and ``"N" [sum n_b^2]``
            (the sample factors of all blocks, flattened and joined).
        discarded: ``||z - z_hat||^2``, the sum of the eigenvalues that the truncation left out.
    """

    core: Tensor
    factors: dict[str, Tensor]
    discarded: float


# ---------------------------------------------------------------- ranks


def check_ratio(r: float) -> float:
    """Return ``r`` as a float when it lies in (0, 1].

    Raises:
        InputError: it does not; the line names the limits and their source.
    """
    if isinstance(r, bool) or not isinstance(r, int | float) or not 0 < r <= 1:
        raise InputError(
            f"rank_ratio={r!r} is out of range: it must be a number in (0, 1], the kept share of each mode "
            "(arXiv 2504.17132, --compress_ratio of the official code, default 0.75)"
        )
    return float(r)


def ranks_from_ratio(shape: Sequence[int], r: float, reading: str = "per-mode") -> tuple[int, int, int, int]:
    """Turn the rank ratio r into ranks (r_T, r_C, r_H, r_W); the channel mode is never truncated.

    ``per-mode`` is the official reading, ``r_k = max(1, int(r d_k))``: the values kept fall like r^3. ``per-parameter`` reads r as
    the share of values kept, ``r_T r_H r_W <= r T H W``: the most even such ranks (largest ``min_k r_k / d_k``), then the largest.

    Args:
        shape: (C, T, H, W) of one latent.
        r: rank ratio in (0, 1].
        reading: ``"per-mode"`` or ``"per-parameter"``.

    Raises:
        InputError: r outside (0, 1], or an unknown reading.
    """
    r = check_ratio(r)
    choose("rank reading", reading, READINGS)
    channels, *grid = shape
    if reading == "per-mode":
        t, h, w = (max(1, int(r * size)) for size in grid)
        return t, channels, h, w

    def size_of(ranks: tuple[int, ...]) -> tuple[float, int]:
        return min(rank / size for rank, size in zip(ranks, grid, strict=True)), math.prod(ranks)

    limit = r * math.prod(grid) * (1 + 1e-12)
    triples = itertools.product(*(range(1, size + 1) for size in grid))
    t, h, w = max((ranks for ranks in triples if math.prod(ranks) <= limit), key=size_of, default=(1, 1, 1))
    return t, channels, h, w


def choose_ranks(energy: Tensor, budget: int, cost: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[int, int, int]:
    """Return the ranks (r_T, r_H, r_W) of least error whose cost fits the budget.

    Keeping the leading ``(r_T, r_H, r_W)`` corner of the full core S leaves the error ``||S||^2 - sum_{t<r_T, h<r_H, w<r_W} S^2``, so one
    cumulative sum over three axes prices every triple at once.

    Args:
        energy: float64 ``[T, H, W]``, squared entries of the full core (:func:`core_energy`).
        budget: bytes, >= the cost of rank (1, 1, 1).
        cost: bytes as a function of three broadcastable int64 rank grids.

    Raises:
        InputError: the budget does not hold rank (1, 1, 1); the line says the minimum.
    """
    grids = torch.meshgrid(*(torch.arange(1, size + 1) for size in energy.shape), indexing="ij")
    price = cost(*grids)
    affordable = price <= budget
    if not affordable.any():
        raise InputError(
            f"a budget of {budget} bytes is too small: rank (1, 1, 1) alone needs {int(price[0, 0, 0])} bytes; "
            "raise the budget, store fewer clips or choose a smaller core_dtype"
        )
    kept = energy.cumsum(0).cumsum(1).cumsum(2)
    best = kept[affordable].max()
    # among triples of equal error (a latent of exactly low rank) the cheapest wins
    equal = affordable & (kept >= best - 1e-12 * kept[-1, -1, -1])
    at = int(torch.where(equal, price, torch.iinfo(torch.int64).max).argmin())
    t, h, w = (int(grid.flatten()[at]) for grid in grids)
    return t, h, w


def official_bytes(n: int, shape: Sequence[int], ranks: Sequence[int], chunk: int | None = OFFICIAL_CHUNK) -> int:
    """Return the bytes that the official code stores.

    ``4 (N r_T C r_H r_W + sum_chunks (n_b^2 + T r_T + C^2 + H r_H + W r_W))``: fp32, every chunk with its own five factors.

    Args:
        n: clips.
        shape: (C, T, H, W) of one latent.
        ranks: (r_T, r_C, r_H, r_W).
        chunk: clips per decomposition; None puts all N into one, which gives the storage the paper states.
    """
    size = chunk or n
    blocks = [min(size, n - start) for start in range(0, n, size)]
    return tucker_bytes(shape, ranks, blocks, itemsize=4, factor_itemsize=4, five_modes=True)


def tucker_bytes(
    shape: Sequence[int],
    ranks: Sequence,
    blocks: Sequence[int],
    *,
    itemsize: int,
    factor_itemsize: int,
    scales: bool = False,
    five_modes: bool = False,
):
    """Return the stored bytes of a Tucker decomposition; ranks may be ints or int64 grids (then so is the result).

    Args:
        shape: (C, T, H, W) of one latent.
        ranks: (r_T, r_C, r_H, r_W).
        blocks: clips in each block.
        itemsize, factor_itemsize: bytes of one core value, of one factor value.
        scales: an int8 core adds one byte per slot and one float32 (see :mod:`vidistill.compress.values`).
        five_modes: the sample and channel factors are stored too (HOOI as the official code does).
    """
    c, t, h, w = shape
    r_t, r_c, r_h, r_w = ranks
    slots = r_t * r_c * r_h * r_w
    factors = len(blocks) * (t * r_t + h * r_h + w * r_w)
    if five_modes:
        factors = factors + len(blocks) * c * r_c + sum(n * n for n in blocks)
    return sum(blocks) * slots * itemsize + factors * factor_itemsize + (slots + 4 if scales else 0)


# ---------------------------------------------------------------- the primitive


def steps(count: int, size: int = STEP) -> Iterator[slice]:
    """Yield the slices of ``size`` clips that cover ``count`` clips."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def turn(x: Tensor, basis: Tensor, block: Tensor) -> Tensor:
    """Multiply the leading mode of every clip by its basis and move it to the back: ``[N, C, d, ...] -> [N, C, ..., r]``.

    Args:
        x: ``[N, C, d, ...]``; any floating dtype, computed in float32.
        basis: float32 ``[G, d, r]``.
        block: int64 ``[N]``, values below G.
    """
    n, channels, d, *rest = x.shape
    out = torch.empty(n, channels, *rest, basis.shape[-1], device=x.device)
    for rows in steps(n):
        clips = x[rows].float().reshape(-1, d, math.prod(rest))
        matrices = basis[block[rows].repeat_interleave(channels)]
        torch.bmm(clips.mT, matrices, out=out[rows].view(len(clips), -1, basis.shape[-1]))
    return out


def gram(x: Tensor, block: Tensor, groups: int) -> Tensor:
    """Return ``X_(d) X_(d)^T`` of the leading mode of ``x [N, C, d, ...]`` for each block: float64 ``[G, d, d]``.

    Clips stream through in steps: GEMMs run in float32, the sum over clips in float64, and no memory grows with N.
    """
    n, channels, d = x.shape[:3]
    total = torch.zeros(groups, d, d, dtype=torch.float64, device=x.device)
    for rows in steps(n):
        clips = x[rows].float().reshape(-1, d, math.prod(x.shape[3:]))
        products = torch.bmm(clips, clips.mT).view(-1, channels, d, d).sum(1)
        total.index_add_(0, block[rows], products.double())
    return total


def leading(grams: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the ``rank`` leading eigenvectors (float32 ``[G, d, rank]``) and all eigenvalues (float64 ``[G, d]``), largest first.

    The entry of largest magnitude of every vector is positive, so that the same latents give the same signs.
    """
    values, vectors = torch.linalg.eigh(grams.cpu())
    values, vectors = values.flip(-1).clamp_min(0), vectors.flip(-1)[..., :rank]
    peak = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return (vectors * peak.sign()).float().to(grams.device), values


# ---------------------------------------------------------------- decompositions


@torch.no_grad()
def st_hosvd(z: Tensor, ranks: Sequence[int], block: Tensor | None = None) -> Tucker:
    """Sequentially truncated higher-order SVD over (T, H, W) (Vannieuwenhoven et al., SIAM J. Sci. Comput. 34(2), 2012).

    Mode by mode: ``U_k`` = leading eigenvectors of the Gram matrix of what is left, then ``S <- S x_k U_k^T``, so each mode works on
    a smaller tensor. ``||z - z_hat||^2`` equals the sum of the discarded eigenvalues and is at most 3 times the optimum.

    Args:
        z: float ``[N, C, T, H, W]``.
        ranks: (r_T, r_H, r_W), each between 1 and the size of its mode.
        block: int64 ``[N]``, the basis of each clip (numbered from 0); one shared basis by default.
    """
    block = torch.zeros(len(z), dtype=torch.int64) if block is None else block
    block, groups = block.to(z.device), int(block.max()) + 1
    factors, discarded = {}, 0.0
    for mode, rank in zip(MODES, ranks, strict=True):
        factors[mode], values = leading(gram(z, block, groups), rank)
        discarded += float(values[:, rank:].sum())
        z = turn(z, factors[mode], block)
    return Tucker(z, factors, discarded)


@torch.no_grad()
def hooi(z: Tensor, ranks: Sequence[int], block: Tensor | None = None) -> Tucker:
    """Higher-order orthogonal iteration on all five modes, as the official code calls ``tensorly.decomposition.tucker``.

    The tensor is ``[n, T, C, H, W]`` with ranks ``[n, r_T, C, r_H, r_W]`` and tensorly's defaults (SVD start, at most 100 sweeps,
    tolerance 1e-4); the untruncated sample and channel factors are kept, because the official file keeps them.

    Args:
        z, ranks, block: as for :func:`st_hosvd`; the official blocks are 400 consecutive clips.
    """
    import tensorly
    from tensorly.decomposition import tucker

    block = torch.zeros(len(z), dtype=torch.int64) if block is None else block
    n, c, *_ = z.shape
    t, h, w = ranks
    core = torch.empty(n, c, t, h, w, device=z.device)
    parts: dict[str, list[Tensor]] = {name: [] for name in ("N", "T", "C", "H", "W")}
    before = tensorly.get_backend()
    tensorly.set_backend("pytorch", local_threadsafe=True)  # this thread only
    try:
        for members in block_members(block):
            clips = z[members].float().transpose(1, 2).contiguous()
            with warnings.catch_warnings():  # tensorly warns when n exceeds the product of the other ranks, which is harmless
                warnings.simplefilter("ignore")
                found, factors = tucker(clips, rank=[len(members), t, c, h, w], random_state=0)
            core[members] = found.transpose(1, 2)
            for name, factor in zip(parts, factors, strict=True):
                parts[name].append(factor.flatten() if name == "N" else factor)
    finally:
        tensorly.set_backend(before, local_threadsafe=True)
    factors = {name: torch.cat(found) if name == "N" else torch.stack(found) for name, found in parts.items()}
    return Tucker(core, factors, max(square_norm(z) - square_norm(core), 0.0))


def expand(core: Tensor, factors: dict[str, Tensor], block: Tensor) -> Tensor:
    """Return ``core x_T U_T x_H U_H x_W U_W`` (and ``x_N U_N x_C U_C`` where HOOI stored them): float32 ``[N, C, T, H, W]``."""
    if "N" in factors:
        mixed, start = torch.empty_like(core), 0
        for members in block_members(block):
            u_n = factors["N"][start : start + len(members) ** 2].view(len(members), -1)
            mixed[members] = (u_n @ core[members].flatten(1)).view(-1, *core.shape[1:])
            start += len(members) ** 2
        core = torch.matmul(factors["C"][block], mixed.flatten(2)).view(core.shape)
    grid = [factors[mode].shape[1] for mode in MODES]
    out = torch.empty(*core.shape[:2], *grid, device=core.device)
    for rows in steps(len(core)):  # all three modes of a step stay in the cache
        clips = core[rows]
        for mode in MODES:
            clips = turn(clips, factors[mode].mT, block[rows])
        out[rows] = clips
    return out


def block_members(block: Tensor) -> list[Tensor]:
    """Return for each block the int64 indices of its clips, in order."""
    return list(torch.split(torch.argsort(block, stable=True), torch.bincount(block).tolist()))


# ---------------------------------------------------------------- what a latent set holds


def square_norm(z: Tensor) -> float:
    """Return ``||z||^2``; dot products in float32 within a step, their sum in float64."""
    parts = (z[rows].float().flatten() for rows in steps(len(z)))
    return math.fsum(part.dot(part).item() for part in parts)


def mode_grams(z: Tensor, block: Tensor, groups: int) -> list[Tensor]:
    """Return the Gram matrices of T, H and W of the untruncated latents, in one pass: three float64 ``[G, d, d]``."""
    grams = [torch.zeros(groups, size, size, dtype=torch.float64, device=z.device) for size in z.shape[2:]]
    for rows in steps(len(z)):
        clips = z[rows].float()
        for total in grams:
            total += gram(clips, block[rows], groups)
            clips = clips.movedim(2, -1)
    return grams


@torch.no_grad()
def spectrum(z: Tensor) -> dict[str, list[float]]:
    """Return the share of ``||z||^2`` in each direction of each mode, largest first: ``{"T": [...], "H": [...], "W": [...]}``.

    These are the eigenvalues of the Gram matrix of the mode divided by their sum; the cumulative sum is the energy that a rank keeps.
    """
    grams = mode_grams(z, torch.zeros(len(z), dtype=torch.int64, device=z.device), 1)
    values = {mode: leading(matrix, 1)[1][0] for mode, matrix in zip(MODES, grams, strict=True)}
    return {mode: (v / v.sum().clamp_min(1e-300)).tolist() for mode, v in values.items()}


@torch.no_grad()
def core_energy(z: Tensor, block: Tensor | None = None) -> Tensor:
    """Return the squared entries of the full HOSVD core, summed over clips and channels: float64 ``[T, H, W]``.

    Its cumulative sum over the three axes is the energy kept by every rank triple: what :func:`choose_ranks` and a rank slider need.
    """
    block = torch.zeros(len(z), dtype=torch.int64) if block is None else block
    block, groups = block.to(z.device), int(block.max()) + 1
    bases = [leading(matrix, matrix.shape[-1])[0] for matrix in mode_grams(z, block, groups)]
    energy = torch.zeros(z.shape[2:], dtype=torch.float64)
    for rows in steps(len(z)):
        clips = z[rows]
        for basis in bases:
            clips = turn(clips, basis, block[rows])
        energy += clips.square().sum((0, 1)).double().cpu()
    return energy
