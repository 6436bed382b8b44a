"""Baselines beside the k-DPP: k-center, herding, k-means medoids, random, and random spread over source videos.

The geometric ones work on the padded, centred Gram matrices of :mod:`vidistill.select.kernels` (``gram [G, n, n]``, ``mask [G, n]``) and
return positions within the class, int64 ``[G, k]``, in the order they were picked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.select.kernels import Grams


def k_center(grams: Grams, k: int) -> Tensor:
    """Farthest first: start at the clip nearest to the class mean, then add the clip farthest from its nearest pick (Gonzalez 1985).

    At most twice the radius of the best k centres.
    """
    return _spread(grams, k, -grams.norms, torch.ones(k, 1, 1))


def herding(grams: Grams, k: int) -> Tensor:
    """Add the clip that keeps the mean of the picks nearest to the class mean (Welling 2009, without replacement as in iCaRL).

    With the class mean at the origin, ``||sum + x_i||^2 = const + 2 <sum, x_i> + <x_i, x_i>``: Gram entries only.
    """
    batch = torch.arange(len(grams.gram))
    cost = grams.norms.clone()
    picks = torch.zeros(len(cost), k, dtype=torch.int64)
    free = grams.mask.clone()
    for step in range(k):
        j = torch.where(free, cost, torch.inf).argmin(-1)
        cost += 2 * grams.gram[batch, j]
        free[batch, j] = False
        picks[:, step] = j
    return picks


def kmeans_medoids(grams: Grams, k: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Cluster each class into k by k-means and return the clip nearest to each centre, all distinct.

    Starts from k-means++ (Arthur & Vassilvitskii 2007); Lloyd's iterations run in faiss on ``Q sqrt(lambda)`` of
    ``gram = Q diag(lambda) Q^T``: coordinates with exactly the clips' distances, n numbers instead of D. A cluster left without a clip is
    filled with the clip farthest from its centre.

    Args:
        generators: one CPU generator per class.

    Raises:
        InputError: faiss is not installed.
    """
    counts = grams.mask.sum(-1).tolist()
    race = torch.ones(k, *grams.mask.shape, dtype=torch.float64)
    for g, (n, generator) in enumerate(zip(counts, generators, strict=True)):
        race[:, g, :n] = torch.empty(k, n, dtype=torch.float64).exponential_(generator=generator)
    starts = _spread(grams, k, 1 / race[0], race)
    picks = []
    for gram, n, start in zip(grams.gram, counts, starts, strict=True):
        squared = lloyd(coordinates(gram[:n, :n]), start, 20, "selector 'k-means' needs")
        gap, cluster = squared.min(1)
        own = torch.where(cluster[:, None] == torch.arange(k), squared, torch.inf)
        medoid = own.argmin(0)[own.isfinite().any(0)]
        spare = gap.index_fill(0, medoid, -1).argsort(descending=True, stable=True)
        picks.append(torch.cat([medoid, spare[: k - len(medoid)]]))
    return torch.stack(picks)


def coordinates(gram: Tensor) -> Tensor:
    """Return ``Q sqrt(lambda)`` of a Gram matrix ``Q diag(lambda) Q^T``, float32 ``[n, n]``: points with exactly the clips' distances."""
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp(min=0).sqrt()).float().contiguous()


def lloyd(points: Tensor, starts: Tensor | list[int], iterations: int, who: str) -> Tensor:
    """Run k-means in faiss from the points at ``starts``; return squared distances to the centres, ``[n, k]``.

    Raises:
        InputError: faiss is not installed; ``who`` says what needs it, e.g. ``"centres need"``.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"{who} faiss: pip install 'vidistill[cpu]'") from error
    n, D = points.shape
    kmeans = faiss.Kmeans(D, len(starts), niter=iterations, min_points_per_centroid=1, max_points_per_centroid=n)
    kmeans.train(points.numpy(), init_centroids=points[starts].numpy())
    return torch.cdist(points, torch.from_numpy(kmeans.centroids)).square()


def random(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Return k of n positions, uniformly without replacement."""
    return torch.randperm(n, generator=generator)[:k]


def group_random(groups: Sequence[str], k: int, generator: torch.Generator) -> Tensor:
    """Return k random positions spread over the groups: one clip of every source video before any video gives a second one.

    Args:
        groups: source video of each clip of the class; an empty name is a video of its own.
    """
    order = torch.randperm(len(groups), generator=generator).tolist()
    seen: dict[str, int] = {}
    turn = {}
    for i in order:
        name = groups[i] or f"/{i}"
        turn[i] = seen[name] = seen.get(name, -1) + 1
    return torch.tensor(sorted(order, key=turn.__getitem__)[:k], dtype=torch.int64)


def _spread(grams: Grams, k: int, first: Tensor, race: Tensor) -> Tensor:
    """Pick the clip with the largest ``first``, then k - 1 times the largest ``d^2(nearest pick) / race``.

    ``race = 1`` is farthest first; exponential noise draws in proportion to ``d^2``, which is k-means++.
    """
    squared = grams.squared_distances()
    batch = torch.arange(len(squared))
    nearest = torch.full(grams.mask.shape, torch.inf, dtype=torch.float64)
    picks = torch.zeros(len(squared), k, dtype=torch.int64)
    free = grams.mask.clone()
    for step in range(k):
        j = torch.where(free, nearest / race[step] if step else first, -torch.inf).argmax(-1)
        nearest = torch.minimum(nearest, squared[batch, j])
        free[batch, j] = False
        picks[:, step] = j
    return picks
