"""Truncated SVD of flattened latents, the baseline that the paper's HOSVD is compared with (``--method PCA`` of the official code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidistill.compress.tucker import READINGS, block_members, check_ratio, square_norm
from vidistill.errors import InputError, choose


@dataclass(frozen=True)
class Svd:
    """A truncated SVD in G blocks: ``x_n = mean + basis coefficients_n``.

    Attributes:
        coefficients: float32 ``[N, s]``.
        basis: float32 ``[D, G, s]``, unit orthogonal columns in each block.
        mean: float32 ``[G, D]``; the official file leaves it out and cannot be decoded exactly.
        discarded: ``||x - x_hat||^2``, what the truncation left out.
    """

    coefficients: Tensor
    basis: Tensor
    mean: Tensor
    discarded: float


def svd_rank(n: int, d: int, r: float, reading: str = "per-mode") -> int:
    """Turn the rank ratio into the number of components s, at most min(n, d).

    ``per-mode``: ``s = max(1, int(r min(n, d)))``. ``per-parameter`` counts what is stored, coefficients and basis:
    ``s (n + d) <= r n d``; r = 0.5 is the official rank ``int(n d / (2 (n + d)))``.

    Args:
        n: clips of the smallest block.
        d: values of one latent.
        r: rank ratio in (0, 1].
        reading: ``"per-mode"`` or ``"per-parameter"``.
    """
    r = check_ratio(r)
    choose("rank reading", reading, READINGS)
    share = r * min(n, d) if reading == "per-mode" else r * n * d / (n + d)
    return min(max(1, int(share)), n, d)


def svd_bytes(d: int, rank: int, blocks: Sequence[int], *, itemsize: int, factor_itemsize: int, scales: bool = False) -> int:
    """Return the stored bytes: coefficients ``[N, s]`` and basis ``[D, G, s]`` in the core's dtype, means ``[G, D]`` in the factors'."""
    n, groups = sum(blocks), len(blocks)
    per_rank = (n + d * groups) * itemsize + (1 + groups if scales else 0)
    return rank * per_rank + groups * d * factor_itemsize + (8 if scales else 0)


def svd_rank_for(budget: int, n: int, d: int, **cost) -> int:
    """Return the largest rank whose :func:`svd_bytes` fit the budget, at most min(n, d).

    Raises:
        InputError: the budget does not hold rank 1; the line says the minimum.
    """
    one, two = svd_bytes(d, 1, **cost), svd_bytes(d, 2, **cost)
    if one > budget:
        raise InputError(f"a budget of {budget} bytes is too small: one SVD component alone needs {one} bytes; raise the budget")
    return min(1 + (budget - one) // (two - one), n, d)


@torch.no_grad()
def svd(z: Tensor, rank: int, block: Tensor | None = None) -> Svd:
    """Return the best rank-s fit of the centred latents in every block, from the smaller Gram matrix (its eigenvectors in float64).

    Args:
        z: float ``[N, C, T, H, W]``.
        rank: s, between 1 and the clips of the smallest block.
        block: int64 ``[N]``, the basis of each clip; one shared basis by default.
    """
    block = torch.zeros(len(z), dtype=torch.int64) if block is None else block
    coefficients = torch.empty(len(z), rank, device=z.device)
    bases, means, discarded = [], [], 0.0
    for members in block_members(block):
        x = z[members].float().flatten(1)
        mean = x.mean(0)
        x -= mean
        wide = x.shape[0] <= x.shape[1]
        square = x @ x.mT if wide else x.mT @ x
        v = torch.linalg.eigh(square.double().cpu())[1][:, -rank:].flip(-1).float().to(z.device)
        if wide:  # coefficients V diag(s) and basis X^T V diag(1/s): their product is V V^T X even where s is rounding noise
            v_x = x.mT @ v
            s = v_x.norm(dim=0)
            coefficients[members], basis = v * s, v_x / s.clamp_min(torch.finfo(s.dtype).tiny)
        else:
            coefficients[members], basis = x @ v, v
        bases.append(basis)
        means.append(mean)
        discarded += max(square_norm(x) - square_norm(coefficients[members]), 0.0)
    return Svd(coefficients, torch.stack(bases, 1), torch.stack(means), discarded)


def svd_expand(coefficients: Tensor, basis: Tensor, mean: Tensor, block: Tensor) -> Tensor:
    """Return ``mean + coefficients basis^T``, float32 ``[N, D]``."""
    out = torch.empty(len(coefficients), basis.shape[0], device=basis.device)
    for group, members in enumerate(block_members(block)):
        out[members] = torch.addmm(mean[group], coefficients[members], basis[:, group].mT)
    return out
