"""Goldens of what a set of latents goes through: selection, centres, decompositions, quantised values; and MVIC's frames.

Eigenvectors have no sign: of a decomposition stand what it gives back, what it leaves out and how large its core is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidistill.codec.quantize import dequantise, quantise
from vidistill.compress import tucker
from vidistill.compress.svd import svd, svd_rank
from vidistill.compress.values import CORE_DTYPES, read, write
from vidistill.rng import stream
from vidistill.select import KERNELS, class_grams, greedy_map, kernel, marginals, sample_kdpp, select
from vidistill.select.centres import KINDS, class_centres
from vidistill.select.mvic import POLICIES, compose, frames_of
from vidistill.types import Latents

Found = dict[str, Tensor]
SHAPE = (2, 4, 6, 6)
RANKS = (2, 3, 3)


def latents() -> Latents:
    """Return 24 clips of three classes, each class around two clips of its own; two of a class share a source video."""
    draws = stream(0, "goldens", "latents")
    heads = torch.randn(3, 2, *SHAPE, generator=draws)
    z = heads.repeat_interleave(4, 1).flatten(0, 1) + 0.4 * torch.randn(24, *SHAPE, generator=draws)
    names = tuple(f"clip-{i}" for i in range(24))
    groups = tuple(f"video-{i // 2}" for i in range(24))
    return Latents(z, torch.arange(3).repeat_interleave(8), names, ("orbit", "slide", "spin"), groups, frames=SHAPE[1])


def kernels(device: torch.device) -> Found:
    """Return the kernel of each kind; the official one, nearly the identity, as ``-ln L``."""
    z = latents()
    grams = class_grams(z.z, z.labels)
    groups = torch.arange(8).repeat(3, 1) // 2
    found = {name: kernel(grams, name, groups=groups if name == "group-aware" else None) for name in KERNELS}
    return found | {"official": -found["official"].log()}


def kdpp(device: torch.device) -> Found:
    """Return draws of a k-DPP, how likely each clip is in one, and the greedy choice."""
    z = latents()
    grams = class_grams(z.z, z.labels)
    likelihood = kernel(grams, "rbf-median")
    draws = [stream(0, "goldens", "kdpp", name) for name in z.classes]
    return {
        "draws": sample_kdpp(likelihood, grams.mask, 3, draws, draws=4),
        "marginals": marginals(likelihood, grams.mask, 3),
        "greedy": greedy_map(likelihood, grams.mask, 3),
    }


def coresets(device: torch.device) -> Found:
    """Return the clips that each selector keeps."""
    selectors = ("dpp", "greedy-map", "k-means", "k-center", "herding", "random", "group-random")
    return {name: select(latents(), selector=name, k=3, seed=1).index for name in selectors}


def centres(device: torch.device) -> Found:
    """Return centres of each kind and what is told of them."""
    found = {kind: class_centres(latents(), k=2, kind=kind, seed=1) for kind in KINDS}
    mean = found["mean"]
    told = {"sizes": mean.sizes, "medoids": mean.medoids, "labels": mean.labels, "motion": mean.motion, "norms": mean.norms}
    return {kind: each.z for kind, each in found.items()} | told


def mvic(device: torch.device) -> Found:
    """Return which frames of a video are taken, and which video and frame every frame of an instance is."""
    found = {policy: frames_of(policy, 16, 4, seed=1, video=2) for policy in POLICIES}
    clips = torch.arange(8 * 16).view(8, 1, 16, 1, 1)
    instances, source = compose(clips, 2, "random-contiguous", seed=1)
    return found | {"instances": instances, "source": source}


def st_hosvd(device: torch.device) -> Found:
    """Return a sequentially truncated HOSVD, one basis for all and one a class."""
    z, found = latents(), {}
    for name, block in (("shared", torch.zeros(24, dtype=torch.int64)), ("class", z.labels)):
        parts = tucker.st_hosvd(z.z.to(device), RANKS, block)
        found |= {
            f"{name}: given back": tucker.expand(parts.core, parts.factors, block.to(device)),
            f"{name}: core": parts.core.square().sum((0, 1)),
            f"{name}: left out": torch.tensor(parts.discarded),
        }
    return found


def hosvd(device: torch.device) -> Found:
    """Return the energy of the whole HOSVD core, and the share in each direction of each mode."""
    z = latents().z.to(device)
    return {"energy": tucker.core_energy(z)} | {mode: torch.tensor(values) for mode, values in tucker.spectrum(z).items()}


def hooi(device: torch.device) -> Found:
    """Return what HOOI gives back in two blocks."""
    z, block = latents().z.to(device), torch.arange(24) // 12
    parts = tucker.hooi(z, RANKS, block)
    back = tucker.expand(parts.core, parts.factors, block)
    return {"given back": back, "core": parts.core.square().sum((0, 1)), "left out": torch.tensor(parts.discarded)}


def flat_svd(device: torch.device) -> Found:
    """Return the SVD baseline: the rank that a ratio buys, what is given back, what is left out."""
    z = latents().z
    rank = svd_rank(24, z[0].numel(), 0.25)
    parts = svd(z.to(device), rank)
    back = parts.mean[0] + parts.coefficients @ parts.basis[:, 0].T
    return {"rank": torch.tensor(rank), "given back": back, "left out": torch.tensor(parts.discarded)}


def ranks(device: torch.device) -> Found:
    """Return the ranks of ratios in both readings, for a latent of SD-VAE's size, and the bytes of the official store."""
    shape, ratios = (4, 16, 14, 14), (0.1, 0.25, 0.5, 0.75, 1.0)
    found = {reading: torch.tensor([tucker.ranks_from_ratio(shape, r, reading) for r in ratios]) for reading in tucker.READINGS}
    bought = [tucker.official_bytes(1000, shape, tucker.ranks_from_ratio(shape, r)) for r in ratios]
    return found | {"official bytes": torch.tensor(bought)}


def int8_weights(device: torch.device) -> Found:
    """Return the int8 weights of a convolution, one channel of which is zero, their scales, and what they are read as."""
    w = torch.randn(6, 4, 3, 3, generator=stream(0, "goldens", "weights"))
    w[2] = 0
    q, s = quantise(w.to(device))
    return {"weights": q, "scales": s, "read": dequantise(q, s)}


def stored_values(device: torch.device) -> Found:
    """Return a core as it is stored in each type, and as it is read."""
    x = torch.randn(8, 2, 2, 3, 3, generator=stream(0, "goldens", "core")) * torch.logspace(-3, 1, 3)
    found = {}
    for kind in CORE_DTYPES:
        stored = write("core", x, kind)
        found |= {f"{kind} {name}": value for name, value in stored.items()} | {f"{kind} read": read(stored, "core")}
    return found


CASES: dict[str, Callable[[torch.device], Found]] = {
    "kernels": kernels,
    "k-dpp": kdpp,
    "coresets": coresets,
    "centres": centres,
    "mvic": mvic,
    "st-hosvd": st_hosvd,
    "hosvd": hosvd,
    "hooi": hooi,
    "svd": flat_svd,
    "ranks": ranks,
    "int8-weights": int8_weights,
    "stored-values": stored_values,
}
