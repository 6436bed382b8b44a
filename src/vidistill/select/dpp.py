"""Determinantal point processes of fixed size: exact sampling, exact marginals and greedy MAP, batched over classes.

Legend: ``L [G, n, n]`` float64 likelihood kernels, padded; ``mask [G, n]`` the real clips; ``P(Y) = det(L_Y) / e_k(lambda)`` over
``|Y| = k``, where ``e_k`` is the elementary symmetric polynomial of the eigenvalues (Kulesza & Taskar 2012, section 5.2). Everything on e_k
stays in the log domain: with L = I, n = 1500 and k = 400, e_k is about 1e376, more than a float64 can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float64).eps


def spectrum(L: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return log eigenvalues ``[G, n]`` (-inf in the padding) and eigenvectors ``[G, n, n]`` (columns) of each kernel.

    Off-diagonals below float64's eps times the diagonal count as 0: no eigensolver can see them, yet they would make it return an
    arbitrary, machine-dependent basis of a kernel that is the identity; a kernel with nothing else gets the standard basis. Eigenvalues are
    floored at ``n eps`` of the largest, the accuracy of the solver, so that a k beyond the numerical rank still has a distribution. Classes
    are grouped by size, not padded: a class's eigenvectors do not depend on the others.
    """
    values = torch.full(mask.shape, -torch.inf, dtype=torch.float64, device=L.device)
    vectors = torch.zeros_like(L)
    counts = mask.sum(-1)
    for n in counts.unique().tolist():
        which = (counts == n).nonzero().squeeze(1)
        block = L[which, :n, :n]
        eigenvalues = block.diagonal(dim1=-2, dim2=-1).clone()
        basis = torch.eye(n, dtype=torch.float64, device=L.device).repeat(len(which), 1, 1)
        scale = eigenvalues.sqrt()
        block = block * (block.abs() > _EPS * (scale[:, :, None] * scale[:, None, :]))
        dense = (block.count_nonzero((-2, -1)) > n).nonzero().squeeze(1)
        if len(dense):
            eigenvalues[dense], basis[dense] = torch.linalg.eigh(block[dense])
        floor = (n * _EPS * eigenvalues.amax(-1, keepdim=True)).clamp(min=torch.finfo(torch.float64).tiny)
        values[which, :n] = torch.maximum(eigenvalues, floor).log()
        vectors[which, :n, :n] = basis
    return values, vectors


def log_esp(values: Tensor, k: int) -> Tensor:
    """Return ``log e_j(lambda_1 .. lambda_m)`` for ``m = 0..n`` and ``j = 0..k``.

    ``e_j^m = e_j^{m-1} + lambda_m e_{j-1}^{m-1}`` (Kulesza & Taskar 2012, algorithm 7); a step covers all j and all classes.

    Args:
        values: ``log lambda``, float64 ``[G, n]``; -inf stands for a zero eigenvalue.

    Returns:
        float64 ``[G, n + 1, k + 1]``; -inf where ``j > m``.
    """
    G, n = values.shape
    table = torch.full((n + 1, G, k + 1), -torch.inf, dtype=torch.float64, device=values.device)
    table[:, :, 0] = 0
    for m in range(n):
        torch.logaddexp(table[m, :, 1:], values[:, m, None] + table[m, :, :-1], out=table[m + 1, :, 1:])
    return table.transpose(0, 1)


def sample_kdpp(L: Tensor, mask: Tensor, k: int, generators: Sequence[torch.Generator], draws: int = 1) -> Tensor:
    """Draw exact k-DPP samples, ``P(Y) = det(L_Y) / e_k(lambda)`` (Kulesza & Taskar 2012, algorithms 1 and 8).

    Args:
        L: float64 ``[G, n, n]``.
        mask: bool ``[G, n]``, at least k real clips in each class.
        k: size of a sample, >= 1.
        generators: one CPU generator per class; what a class draws depends on its own kernel and generator alone.
        draws: independent samples per class.

    Returns:
        int64 ``[G, draws, k]``, positions within the class, in the order they were drawn.
    """
    G, n = mask.shape
    uniform = torch.zeros(G, draws, n, dtype=torch.float64)
    race = torch.ones(G, draws, k, n, dtype=torch.float64)
    for g, (count, generator) in enumerate(zip(mask.sum(-1).tolist(), generators, strict=True)):
        uniform[g, :, :count] = torch.rand(draws, count, generator=generator, dtype=torch.float64)
        race[g, :, :, :count].exponential_(generator=generator)
    uniform, race = uniform.to(L.device), race.to(L.device).flatten(0, 1)

    # phase 1: choose k eigenvectors, from the last to the first; lambda_m joins with probability lambda_m e_{l-1}^{m-1} / e_l^m
    values, vectors = spectrum(L, mask)
    table = log_esp(values, k)
    missing = torch.full((G, draws), k, device=L.device)
    chosen = torch.zeros(G, draws, n, dtype=torch.bool, device=L.device)
    for m in range(n, 0, -1):
        joins = values[:, m - 1, None] + table[:, m - 1].gather(1, (missing - 1).clamp(min=0)) - table[:, m].gather(1, missing)
        take = (missing > 0) & ((uniform[:, :, m - 1].log() < joins) | (missing == m))  # the last ones must join
        chosen[:, :, m - 1] = take
        missing -= take.long()

    # phase 2: the projection kernel K = V V^T of the chosen ones; clips are drawn in proportion to their residual (exponential race)
    columns = chosen.flatten(0, 1).nonzero()[:, 1].view(G, draws, 1, k)
    V = vectors[:, None].expand(-1, draws, -1, -1).gather(3, columns.expand(-1, -1, n, -1)).flatten(0, 1)
    picks = _condition(V @ V.mT, mask.repeat_interleave(draws, 0), k, lambda step, residual: residual / race[:, step])
    return picks.view(G, draws, k)


def marginals(L: Tensor, mask: Tensor, k: int) -> Tensor:
    """Return the inclusion probabilities of the k-DPP, ``P(i in Y) = sum_m v_im^2 lambda_m e_{k-1}(lambda without m) / e_k(lambda)``.

    ``e_{k-1}`` without m is the product of the tables from the left and from the right: no division, hence stable.

    Returns:
        float64 ``[G, n]``, each row sums to k, 0 in the padding.
    """
    values, vectors = spectrum(L, mask)
    left = log_esp(values, k)
    right = log_esp(values.flip(1), k).flip(1)
    without = torch.logsumexp(left[:, :-1, :k] + right[:, 1:, :k].flip(2), -1)
    share = (values + without - left[:, -1, k, None]).exp()
    return torch.einsum("gim,gm->gi", vectors.square(), share) * mask


def greedy_map(L: Tensor, mask: Tensor, k: int) -> Tensor:
    """Add, k times, the clip that raises ``log det(L_Y)`` most (Chen, Zhang & Zhou 2018, algorithm 1): ``O(k^2 n)`` by Cholesky updates.

    Ties go to the first clip, so on an identity kernel it returns the first k clips.

    Returns:
        int64 ``[G, k]``, positions within the class, in the order they were added.
    """
    return _condition(L, mask, k, lambda step, residual: residual)


def _condition(K: Tensor, mask: Tensor, k: int, score: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Pick k items by the largest ``score(step, residual)``, conditioning after each: ``residual_i = K_ii - K_iY K_Y^-1 K_Yi``.

    ``C`` holds the rows of the growing Cholesky factor: ``c = (K_j - C C_j) / sqrt(residual_j)``, then ``residual -= c^2``.
    """
    B, n = mask.shape
    batch = torch.arange(B, device=K.device)
    tiny = torch.finfo(torch.float64).tiny
    residual = K.diagonal(dim1=-2, dim2=-1).clone()
    free = mask.clone()
    C = torch.zeros(B, n, k, dtype=torch.float64, device=K.device)
    picks = torch.zeros(B, k, dtype=torch.int64, device=K.device)
    for step in range(k):
        j = torch.where(free, score(step, residual.clamp(min=tiny)), -1.0).argmax(-1)
        row = K[batch, j] - torch.einsum("bnt,bt->bn", C[:, :, :step], C[batch, j, :step])
        c = row / residual[batch, j].clamp(min=_EPS**2).sqrt()[:, None]
        residual -= c.square()
        C[:, :, step] = c
        free[batch, j] = False
        picks[:, step] = j
    return picks
