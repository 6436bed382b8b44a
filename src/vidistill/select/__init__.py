"""Which clips to keep: per class, exactly k of them, by k-DPP, greedy MAP, k-means, k-center, herding or at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.rng import stream
from vidistill.select import kernels
from vidistill.select.coresets import group_random, herding, k_center, kmeans_medoids, random
from vidistill.select.dpp import greedy_map, marginals, sample_kdpp
from vidistill.select.kernels import KERNELS, Grams, class_grams, diagnostics, feature_scale, kernel, overall
from vidistill.types import Latents

__all__ = [
    "KERNELS",
    "SELECTORS",
    "Selection",
    "check_k",
    "class_grams",
    "diagnostics",
    "greedy_map",
    "kernel",
    "marginals",
    "sample_kdpp",
    "select",
]

SELECTORS = ("dpp", "greedy-map", "k-means", "k-center", "herding", "random", "group-random", "all")

_ENTRIES = 2**21  # padded kernel entries held at once: 16 MiB a matrix batch in float64


@dataclass(frozen=True)
class Selection:
    """The clips that were kept.

    Attributes:
        index: int64 ``[K]``, rows of the latents, class by class, in the order they were picked.
        diagnostics: for ``dpp`` and ``greedy-map`` what :func:`vidistill.select.kernels.diagnostics` says of the kernel, with ``kernel``,
            the class names and a plain-language ``note`` ("" when there is nothing to say); None for the others.
    """

    index: Tensor
    diagnostics: dict[str, Any] | None = None


def select(latents: Latents, *, selector: str, kernel: str = "rbf-median", bandwidth: float = 1.0, k: int, seed: int = 0) -> Selection:
    """Keep k clips of every class; never a choice across classes (LVDD's "DAPS", spec 2.3).

    Features are the flattened latents, standardised over the whole set. Deterministic in ``seed``; the random draws of a class come from a
    stream named by the class.

    Args:
        latents: the candidates; ``group-random`` and kernel ``group-aware`` also read ``groups``.
        selector: one of ``SELECTORS``; ``all`` ignores ``k``.
        kernel: one of ``KERNELS``, for ``dpp`` and ``greedy-map``.
        bandwidth: factor on the median distance, > 0, for the kernels that have one.
        k: clips per class, >= 1.

    Raises:
        InputError: unknown selector or kernel, k outside [1, clips of a class], bandwidth not positive, or groups asked for and absent.
    """
    choose("selector", selector, SELECTORS)
    choose("kernel", kernel, KERNELS)
    labels = latents.labels.cpu()
    if selector == "all":
        return Selection(labels.argsort(stable=True))
    counts = torch.bincount(labels, minlength=len(latents.classes)).tolist()
    check_k(k, counts, latents.classes)
    with_kernel = selector in ("dpp", "greedy-map")
    grouped = selector == "group-random" or (with_kernel and kernel == "group-aware")
    if grouped and not any(latents.groups):
        what, instead = ("kernel 'group-aware'", "rbf-median") if with_kernel else ("selector 'group-random'", "random")
        raise InputError(f"{what} needs the source video of each clip (groups), and these latents have none: use {instead!r}")

    if selector in ("random", "group-random"):
        picks = []
        for label, name in enumerate(latents.classes):
            rows = (labels == label).nonzero().squeeze(1)
            generator = stream(seed, selector, name)
            own = [latents.groups[i] for i in rows.tolist()] if grouped else []
            picks.append(rows[group_random(own, k, generator) if grouped else random(len(rows), k, generator)])
        return Selection(torch.cat(picks))

    picks, reports = [], []
    for grams in _batches(latents, counts):
        names = [latents.classes[label] for label in grams.labels.tolist()]
        if selector == "k-center":
            chosen = k_center(grams, k)
        elif selector == "herding":
            chosen = herding(grams, k)
        elif selector == "k-means":
            chosen = kmeans_medoids(grams, k, [stream(seed, "k-means", name) for name in names])
        else:
            L = kernels.kernel(grams, kernel, bandwidth, _group_ids(latents, grams) if grouped else None)
            reports += [{"class": name} | row for name, row in zip(names, diagnostics(L, grams.mask)["per_class"], strict=True)]
            if selector == "dpp":
                chosen = sample_kdpp(L, grams.mask, k, [stream(seed, "kdpp", name) for name in names])[:, 0]
            else:
                chosen = greedy_map(L, grams.mask, k)
        picks.append(grams.index.gather(1, chosen).flatten())
    return Selection(torch.cat(picks), _explain(reports, kernel) if with_kernel else None)


def check_k(k: int, counts: list[int], classes: tuple[str, ...]) -> None:
    """Refuse a k outside [1, clips of the smallest class]; ``counts`` are the clips of each class.

    Raises:
        InputError: the line names the class, its count and the range.
    """
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if not 1 <= k <= counts[fewest]:
        raise InputError(
            f"cannot keep k={k} clips of each class: class {classes[fewest]!r} has {counts[fewest]}, so k must lie in "
            f"[1, {counts[fewest]}]; ask for fewer instances or drop that class"
        )


def _batches(latents: Latents, counts: list[int]) -> Iterator[Grams]:
    """Grams of runs of classes, so many at a time that the padded batch stays small whatever the data set."""
    x, labels = latents.z, latents.labels
    scale = feature_scale(x)
    run: list[int] = []
    for label, count in enumerate(counts):
        if run and (len(run) + 1) * max(count, *(counts[c] for c in run)) ** 2 > _ENTRIES:
            yield class_grams(x, labels, classes=run, scale=scale)
            run = []
        run.append(label)
    yield class_grams(x, labels, classes=run, scale=scale)


def _group_ids(latents: Latents, grams: Grams) -> Tensor:
    """Number the source videos, int64 ``[G, n]``; a clip without one is a video of its own."""
    ids: dict[str, int] = {}
    rows = [[latents.groups[i] or f"/{i}" for i in row] for row in grams.index.tolist()]
    return torch.tensor([[ids.setdefault(name, len(ids)) for name in row] for row in rows])


def _explain(per_class: list[dict[str, Any]], name: str) -> dict[str, Any]:
    report = overall(per_class)
    blind = [row["largest_off_diagonal"] for row in per_class if row["identity"]]
    note = ""
    if blind:
        where = "here" if report["identity"] else f"in {len(blind)} of {len(per_class)} classes"
        note = (
            f"the {name} kernel is numerically the identity {where} (largest off-diagonal {max(blind):.0e}): the k-DPP is "
            f"uniform random sampling and greedy MAP takes the first clips"
        )
    return {"kernel": name, "note": note} | report
