"""``compress``: latents in, exactly the tensors that will be stored out; ``Compressed`` gives the latents back from those tensors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidistill.compress import svd as pca
from vidistill.compress.tucker import (
    OFFICIAL_CHUNK,
    READINGS,
    check_ratio,
    choose_ranks,
    core_energy,
    expand,
    hooi,
    ranks_from_ratio,
    square_norm,
    st_hosvd,
    steps,
    tucker_bytes,
)
from vidistill.compress.values import CORE_DTYPES, factor_dtype, read, write
from vidistill.errors import InputError, choose

DECOMPOSITIONS = ("st-hosvd", "hooi", "svd", "none")
BASES = ("shared", "class", "chunk")
FACTOR = "factor."


@dataclass(frozen=True)
class Compressed:
    """Compressed latents: the stored tensors and the few facts needed to read them.

    Attributes:
        decomposition, basis, core_dtype: as given to :func:`compress`.
        shape: (N, C, T, H, W).
        ranks: (r_T, r_C, r_H, r_W) for Tucker, (s,) for the SVD, () for none.
        energy: share of ``||z||^2`` that the truncation keeps, before the values are rounded to ``core_dtype``; in [0, 1].
        blocks: int64 ``[N]``, the basis each clip uses, 0..G-1. It follows from ``basis`` and the labels, so it is not stored.
        stored: the tensors, named as in the file: ``core``, its scales, and ``factor.*``.
    """

    decomposition: str
    basis: str
    core_dtype: str
    shape: tuple[int, ...]
    ranks: tuple[int, ...]
    energy: float
    blocks: Tensor
    stored: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors exactly as the file holds them."""
        return dict(self.stored)

    @property
    def bytes(self) -> dict[str, int]:
        """Exact bytes: ``core``, and ``factors`` (bases, means and scales)."""
        core = self.stored["core"].nbytes
        return {"core": core, "factors": sum(tensor.nbytes for tensor in self.stored.values()) - core}

    def record(self) -> dict[str, Any]:
        """Return the JSON-able facts that the file keeps beside the tensors."""
        return {
            "decomposition": self.decomposition,
            "basis": self.basis,
            "core_dtype": self.core_dtype,
            "shape": list(self.shape),
            "ranks": list(self.ranks),
            "energy": self.energy,
        }

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor], record: Mapping[str, Any], labels: Tensor) -> Compressed:
        """Rebuild what :meth:`tensors` and :meth:`record` gave; ``labels`` int64 ``[N]`` tell the blocks of ``basis="class"``."""
        return cls(
            decomposition=choose("decomposition", record["decomposition"], DECOMPOSITIONS),
            basis=record["basis"],
            core_dtype=choose("core_dtype", record["core_dtype"], CORE_DTYPES),
            shape=tuple(record["shape"]),
            ranks=tuple(record["ranks"]),
            energy=record["energy"],
            blocks=assign_blocks(labels, record["basis"]),
            stored=dict(stored),
        )

    @torch.no_grad()
    def reconstruct(self) -> Tensor:
        """Return the latents that the stored tensors encode: float32 ``[N, C, T, H, W]`` on the CPU."""
        core = read(self.stored, "core")
        if self.decomposition == "none":
            return core
        if self.decomposition == "svd":
            flat = pca.svd_expand(core, read(self.stored, FACTOR + "basis"), self.stored[FACTOR + "mean"].float(), self.blocks)
            return flat.view(self.shape)
        factors = {name.removeprefix(FACTOR): tensor.float() for name, tensor in self.stored.items() if name.startswith(FACTOR)}
        return expand(core, factors, self.blocks)

    def error(self, z: Tensor) -> float:
        """Return the relative Frobenius error ``||z - z_hat|| / ||z||`` against latents ``z [N, C, T, H, W]``."""
        z_hat = self.reconstruct()
        wrong = sum(square_norm(z[rows].float().cpu() - z_hat[rows]) for rows in steps(len(z)))
        return math.sqrt(wrong / max(square_norm(z), 1e-300))


def assign_blocks(labels: Tensor, basis: str) -> Tensor:
    """Return the basis of each clip, int64 ``[N]``: one for all, one per class present, or one per 400 consecutive clips."""
    choose("basis", basis, BASES)
    if basis == "class":
        return torch.unique(labels, return_inverse=True)[1]
    clips = torch.arange(len(labels))
    return clips // OFFICIAL_CHUNK if basis == "chunk" else torch.zeros_like(clips)


@torch.no_grad()
def compress(
    z: Tensor,
    labels: Tensor,
    *,
    decomposition: str = "st-hosvd",
    rank_ratio: float = 0.75,
    reading: str = "per-mode",
    basis: str = "shared",
    core_dtype: str = "fp32",
    budget: int | None = None,
) -> Compressed:
    """Compress labelled latents (arXiv 2504.17132, section "HOSVD"; ours is a partial Tucker over T, H, W).

    Args:
        z: float ``[N, C, T, H, W]``, finite.
        labels: int64 ``[N]``.
        decomposition: ``"st-hosvd"`` (ours), ``"hooi"`` (official: all five modes), ``"svd"`` (baseline) or ``"none"``.
        rank_ratio: r in (0, 1].
        reading: how r becomes ranks, see :func:`vidistill.compress.tucker.ranks_from_ratio`.
        basis: ``"shared"``, ``"class"`` or ``"chunk"`` (400 consecutive clips; with ``"hooi"`` the official code).
        core_dtype: ``"fp32"``, ``"fp16"`` or ``"int8"`` (a scale per slot). Factors are fp32 beside fp32, else fp16.
        budget: bytes for cores, factors and scales together; the ranks of least error that fit are used and ``rank_ratio`` is ignored.

    Raises:
        InputError: an unknown option, r outside (0, 1], latents that are empty or not finite, or a budget that holds not even rank 1.
    """
    choose("decomposition", decomposition, DECOMPOSITIONS)
    choose("core_dtype", core_dtype, CORE_DTYPES)
    choose("rank reading", reading, READINGS)
    check_ratio(rank_ratio)
    labels = torch.as_tensor(labels, dtype=torch.int64).cpu()
    if z.ndim != 5 or len(z) == 0 or len(labels) != len(z):
        raise InputError(f"compress needs latents [N, C, T, H, W] and N labels, N > 0; got {tuple(z.shape)} and {len(labels)} labels")
    norm = square_norm(z)
    if not math.isfinite(norm):
        raise InputError(f"the latents {tuple(z.shape)} hold NaN or infinite values; encode the clips again")

    blocks = assign_blocks(labels, basis)
    sizes = torch.bincount(blocks).tolist()
    n, shape, d = len(z), tuple(z.shape[1:]), z[0].numel()
    factors_as = factor_dtype(core_dtype)
    cost: dict[str, Any] = {
        "itemsize": CORE_DTYPES[core_dtype].itemsize,
        "factor_itemsize": factors_as.itemsize,
        "scales": core_dtype == "int8",
    }
    stored: dict[str, Tensor]
    ranks: tuple[int, ...]

    if decomposition == "none":
        ranks, discarded, stored = (), 0.0, write("core", z.float(), core_dtype)
        needed = sum(tensor.nbytes for tensor in stored.values())
        if budget is not None and needed > budget:
            raise InputError(f"a budget of {budget} bytes is too small: {n} uncompressed clips need {needed} bytes; use st-hosvd")
    elif decomposition == "svd":
        if budget is None:
            ranks = (pca.svd_rank(min(sizes), d, rank_ratio, reading),)
        else:
            ranks = (pca.svd_rank_for(budget, min(sizes), d, blocks=sizes, **cost),)
        fit = pca.svd(z, ranks[0], blocks)
        discarded = fit.discarded
        stored = {
            **write("core", fit.coefficients, core_dtype),
            **write(FACTOR + "basis", fit.basis, core_dtype),
            FACTOR + "mean": fit.mean.to("cpu", factors_as),
        }
    else:
        five_modes = decomposition == "hooi"
        if budget is None:
            ranks = ranks_from_ratio(shape, rank_ratio, reading)
        else:
            t, h, w = choose_ranks(
                core_energy(z, blocks),
                budget,
                lambda t, h, w: tucker_bytes(shape, (t, shape[0], h, w), sizes, five_modes=five_modes, **cost),
            )
            ranks = (t, shape[0], h, w)
        found = (hooi if five_modes else st_hosvd)(z, (ranks[0], *ranks[2:]), blocks)
        discarded = found.discarded
        stored = write("core", found.core, core_dtype)
        stored |= {FACTOR + name: factor.to("cpu", factors_as) for name, factor in found.factors.items()}

    energy = 1.0 - min(discarded / norm, 1.0) if norm else 1.0
    return Compressed(decomposition, basis, core_dtype, (n, *shape), ranks, energy, blocks, stored)
