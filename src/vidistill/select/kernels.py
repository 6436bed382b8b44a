"""Similarity kernels over the clips of each class, all made from one small Gram matrix per class.

Legend: N clips, D values per clip, G classes, n clips of the largest class. A batch over classes is padded to ``[G, n, n]``;
``mask [G, n]`` marks the real clips and padded rows of a kernel are zero. Distances need only inner products,
``||x - y||^2 = <x,x> + <y,y> - 2<x,y>``, so D (12,544 for a 16-frame SD-VAE latent) is touched once, in float32 GEMMs, and everything after
it is float64 on n x n matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError, choose

KERNELS = ("official", "rbf-median", "cosine", "quality-diversity", "group-aware")

GROUP_PULL = 0.9
"""How far the group-aware kernel moves a clip towards the mean of its source video: 0 not at all, 1 all the way."""

IDENTITY = 1e-6
"""A kernel whose off-diagonals all lie below this share of the diagonal is called the identity."""

_BLOCK = 64  # rows whose float32 temporaries stay in the cache
_NEAR = 1e-3  # below this share of the norms, float32 GEMM rounding would show in the distance


@dataclass(frozen=True)
class Grams:
    """Inner products of the clips of each class around the class mean.

    Attributes:
        gram: float64 ``[G, n, n]`` on the CPU, ``<x_i - mu_c, x_j - mu_c>``; zero in the padding.
        mask: bool ``[G, n]``, the real clips.
        index: int64 ``[G, n]``, row of the clip in the whole set; 0 in the padding.
        labels: int64 ``[G]``, the class of each matrix, ascending.
    """

    gram: Tensor
    mask: Tensor
    index: Tensor
    labels: Tensor

    @property
    def norms(self) -> Tensor:
        """``||x_i - mu_c||^2``, float64 ``[G, n]``."""
        return self.gram.diagonal(dim1=-2, dim2=-1)

    def squared_distances(self) -> Tensor:
        """Return ``||x_i - x_j||^2``, float64 ``[G, n, n]``: never negative, exactly 0 on the diagonal."""
        return _squared_distances(self.gram)


def feature_scale(x: Tensor) -> Tensor:
    """Return ``1 / std`` of each feature over the whole set, 1 for a constant feature, as sklearn's StandardScaler (spec 2.3, step 1).

    Args:
        x: floating ``[N, ...]``; read once, a few rows at a time.

    Returns:
        float32 ``[D]`` on the device of ``x``.

    Raises:
        InputError: the latents hold NaN or infinite values.
    """
    x = x.flatten(1)
    shift = x[:_BLOCK].float().mean(0)  # an origin near the data keeps the float32 squares small
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    square = torch.zeros_like(total)
    for rows in x.split(_BLOCK):
        moved = rows.float() - shift
        total += moved.sum(0)
        square += moved.square_().sum(0)
    if not torch.isfinite(square).all():
        broken = [i for i, rows in enumerate(x.split(_BLOCK)) if not torch.isfinite(rows).all()]
        first = broken[0] * _BLOCK
        raise InputError(
            f"latents hold NaN or infinite values, first among clips {first} to {min(first + _BLOCK, len(x)) - 1}: encode again in fp32"
        )
    mean = total / len(x)
    variance = (square / len(x) - mean**2).clamp(min=0)
    constant = variance <= 1e-12 * (square / len(x) + shift.double() ** 2)
    return torch.where(constant, 1.0, variance.rsqrt()).float()


def class_grams(
    x: Tensor, labels: Tensor, standardize: bool = True, *, classes: Sequence[int] | None = None, scale: Tensor | None = None
) -> Grams:
    """Return the Gram matrix of each class, ``G_ij = <x_i - mu_c, x_j - mu_c>`` after standardising every feature over all classes.

    Args:
        x: floating ``[N, ...]``, flattened to ``[N, D]``; only one class at a time is converted and copied.
        labels: int64 ``[N]``.
        standardize: divide each feature by its standard deviation over the whole set (the mean cancels in every distance).
        classes: labels to work on, ascending; all that occur when left out.
        scale: float32 ``[D]`` from :func:`feature_scale`, when it is already known.
    """
    x, labels = x.flatten(1), labels.cpu()
    if scale is None and standardize:
        scale = feature_scale(x)
    present = labels.unique().tolist() if classes is None else list(classes)
    rows = [(labels == label).nonzero().squeeze(1) for label in present]
    counts = torch.tensor([len(row) for row in rows])
    n = int(counts.max())
    gram = torch.zeros(len(present), n, n, dtype=torch.float64)
    index = torch.zeros(len(present), n, dtype=torch.int64)
    for g, row in enumerate(rows):
        m = len(row)
        gram[g, :m, :m] = _gram(_take(x, row), scale)
        index[g, :m] = row
    return Grams(gram, torch.arange(n) < counts[:, None], index, torch.tensor(present))


def kernel(grams: Grams, name: str = "rbf-median", bandwidth: float = 1.0, groups: Tensor | None = None) -> Tensor:
    r"""Return the likelihood kernel ``L`` of each class, float64 ``[G, n, n]``, symmetric, positive semi-definite, zero in the padding.

    With ``d_ij = ||x_i - x_j||``, ``m`` the median of ``d_ij`` over the pairs of the class, ``b`` the bandwidth, ``mu`` the class mean:

    - ``official``: ``exp(-d_ij)``, no square and no bandwidth (official LVDD code, spec 2.3);
    - ``rbf-median``: ``exp(-d_ij^2 / (2 (b m)^2))``;
    - ``cosine``: ``<x_i - mu, x_j - mu> / (||x_i - mu|| ||x_j - mu||)``;
    - ``quality-diversity``: ``q_i S_ij q_j`` with ``S`` = rbf-median and ``q_i = exp(-||x_i - mu||^2 / (2 median_j ||x_j - mu||^2))``:
      clips near the class mean are likelier (Kulesza & Taskar 2012, section 3.1; this ``q`` is ours);
    - ``group-aware`` (ours): rbf-median of ``y_i = x_i + p (mu_g(i) - x_i)``, each clip moved ``p = GROUP_PULL`` of the way to the mean of
      its source video, ``m`` over the pairs from different videos: clips of one video look alike, and an RBF of points is positive
      semi-definite.

    Args:
        grams: from :func:`class_grams`.
        name: one of ``KERNELS``.
        bandwidth: ``b > 0``; used by every kernel with an ``m``.
        groups: int64 ``[G, n]``, source video of each clip, for ``group-aware``.

    Raises:
        InputError: unknown name, bandwidth not positive, or ``group-aware`` without groups.
    """
    choose("kernel", name, KERNELS)
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise InputError(
            f"kernel bandwidth={bandwidth} is not allowed: it must be a number greater than 0 (it multiplies the median distance)"
        )
    both = grams.mask[:, :, None] & grams.mask[:, None, :]
    if name == "official":
        L = torch.exp(-grams.squared_distances().sqrt())
    elif name == "rbf-median":
        L = _rbf(grams.squared_distances(), both, bandwidth)
    elif name == "cosine":
        norm = grams.norms.clamp(min=0).sqrt()
        unit = torch.where(norm > 0, 1 / norm, 0.0)
        L = grams.gram * (unit[:, :, None] * unit[:, None, :])
        L.diagonal(dim1=-2, dim2=-1).fill_(1.0)  # also a clip exactly at the mean, which has no direction
    elif name == "quality-diversity":
        spread = _median(grams.norms, grams.mask)
        q = torch.exp(-grams.norms / (2 * spread[:, None])).clamp(min=1e-6)  # an extreme outlier keeps a positive diagonal
        L = _rbf(grams.squared_distances(), both, bandwidth) * (q[:, :, None] * q[:, None, :])
    else:
        if groups is None:
            raise InputError(
                "kernel 'group-aware' needs the source video of each clip (groups), and these latents have none: use 'rbf-median'"
            )
        same = ((groups[:, :, None] == groups[:, None, :]) & both).double()
        average = same / same.sum(-1, keepdim=True).clamp(min=1)
        pull = GROUP_PULL * average + (1 - GROUP_PULL) * torch.eye(same.shape[-1], dtype=torch.float64)
        L = _rbf(_squared_distances(pull @ grams.gram @ pull.mT), both, bandwidth, pairs=both & (same == 0))
    return L * both


def diagnostics(L: Tensor, mask: Tensor) -> dict[str, Any]:
    """Say whether a kernel can tell clips apart: its largest off-diagonal, its effective rank, and whether it is numerically the identity.

    The kernel is first scaled to a unit diagonal, ``C_ij = L_ij / sqrt(L_ii L_jj)``. Effective rank: ``tr(C)^2 / ||C||_F^2``, which is n
    for the identity and 1 when all clips are the same.

    Args:
        L: float64 ``[G, n, n]`` with a positive diagonal on the real clips.
        mask: bool ``[G, n]``.

    Returns:
        ``largest_off_diagonal`` (over all classes), ``effective_rank`` (mean over classes), ``identity`` (in all classes) and
        ``per_class``: one dict per class with the same three and ``clips``.
    """
    scale = torch.where(mask, L.diagonal(dim1=-2, dim2=-1), 1.0).rsqrt()
    C = L * (scale[:, :, None] * scale[:, None, :])
    n = mask.sum(-1)
    rank = n.double() ** 2 / C.square().sum((-2, -1))
    C.diagonal(dim1=-2, dim2=-1).zero_()
    largest = C.abs().amax((-2, -1))
    return overall(
        [
            {"clips": clips, "largest_off_diagonal": off, "effective_rank": r, "identity": off < IDENTITY}
            for clips, off, r in zip(n.tolist(), largest.tolist(), rank.tolist(), strict=True)
        ]
    )


def overall(per_class: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary of :func:`diagnostics` over classes that may come from several batches."""
    return {
        "largest_off_diagonal": max(row["largest_off_diagonal"] for row in per_class),
        "effective_rank": sum(row["effective_rank"] for row in per_class) / len(per_class),
        "identity": all(row["identity"] for row in per_class),
        "per_class": per_class,
    }


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]``, without the copy where the rows lie side by side, as they do in a set that is stored class by class."""
    first, last = int(rows[0]), int(rows[-1])
    return x[first : last + 1] if last - first + 1 == len(rows) else x[rows.to(x.device)]


def _gram(x: Tensor, scale: Tensor | None) -> Tensor:
    """Float64 Gram of one class; pairs too near for a float32 GEMM come from their difference, so that duplicates lie at distance 0."""
    x = x.float()
    x = x - x.mean(0) if scale is None else torch.addcmul(-x.mean(0) * scale, x, scale)  # (x - mu) scale in one pass
    gram = (x @ x.T).double().cpu()
    gram = (gram + gram.T) / 2
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    near = (sums - 2 * gram < _NEAR * sums).fill_diagonal_(False)
    for i, j in (pair.unbind(1) for pair in near.nonzero().split(_BLOCK)):
        exact = (x[i.to(x.device)] - x[j.to(x.device)]).square_().sum(1).double().cpu()
        gram[i, j] = (sums[i, j] - exact) / 2
    return gram


def _squared_distances(gram: Tensor) -> Tensor:
    norms = gram.diagonal(dim1=-2, dim2=-1)
    squared = (norms[:, :, None] + norms[:, None, :] - (gram + gram.mT)).clamp_(min=0)
    squared.diagonal(dim1=-2, dim2=-1).zero_()
    return squared


def _rbf(squared: Tensor, both: Tensor, bandwidth: float, pairs: Tensor | None = None) -> Tensor:
    """``exp(-d^2 / (2 (b m)^2))``, ``m`` the median over ``pairs`` (all pairs of the class when it has none)."""
    off = both.triu(1)
    if pairs is not None:
        off = torch.where((pairs & off).any((-2, -1), keepdim=True), pairs & off, off)
    return torch.exp(-squared / (2 * bandwidth**2 * _median(squared.flatten(1), off.flatten(1))[:, None, None]))


def _median(values: Tensor, mask: Tensor) -> Tensor:
    """Lower median of each row over ``mask``; one where nothing is masked in or the median is 0, so that it can divide."""
    median = torch.where(mask, values, torch.nan).nanmedian(-1).values
    return torch.where(median > 0, median, 1.0)
