"""Selection and compression of MiniUCF's size against the public libraries, called as the official LVDD code calls them.

50 classes, 24 of 93 clips each, latents of 16x4x14x14: official kernel, exact k-DPP, Tucker at rank ratio 0.75.

- ours: ``select`` + ``compress`` (ST-HOSVD);
- peer: StandardScaler, scipy ``cdist``, DPPy ``FiniteDPP.sample_exact_k_dpp`` per class, ``tensorly.tucker`` (torch) on chunks of 400.

Both run in one process with the same threads, in turn, and medians are compared. Run it by hand: ``python tests/bench/bench_lvdd.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidistill.compress import compress
from vidistill.select import select
from vidistill.types import Latents

K, CHUNK, RATIO = 24, 400, 0.75


def structured_latents(classes: int, clips: int, seed: int = 0) -> Latents:
    """Latents as a video codec gives them: 60 smooth fields shared by all clips, a field of each class, and white noise."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(60 + classes, 4, 5, 5, 5, generator=g)
    fields = interpolate(coarse, size=(16, 14, 14), mode="trilinear").flatten(1)
    labels = torch.arange(classes).repeat_interleave(clips)
    z = torch.randn(len(labels), 60, generator=g) @ fields[:60] / 60**0.5
    z += fields[60:][labels]
    z += 0.5 * torch.randn(z.shape, generator=g)
    names = tuple(f"clip{i}" for i in range(len(labels)))
    return Latents(z.view(-1, 4, 16, 14, 14), labels, names, tuple(f"class{c}" for c in range(classes)))


def peer_select(flat: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Spec 2.3 step by step; ``flat`` is float32 ``[N, D]``."""
    from dppy.finite_dpps import FiniteDPP
    from scipy.spatial.distance import cdist
    from sklearn.preprocessing import StandardScaler

    x = StandardScaler().fit_transform(flat)
    picks = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        L = np.exp(-cdist(x[rows], x[rows]))
        dpp = FiniteDPP(kernel_type="likelihood", L=L)
        picks.append(rows[dpp.sample_exact_k_dpp(size=K)])
    return np.concatenate(picks)


def peer_compress(z: Tensor) -> list:
    """Spec 2.4: HOOI of ``[n, T, C, H, W]`` in chunks of 400 with full ranks in the sample and the channel mode."""
    from tensorly.decomposition import tucker

    T, C, H, W = z.shape[1:]
    return [tucker(chunk, rank=[len(chunk), int(RATIO * T), C, int(RATIO * H), int(RATIO * W)]) for chunk in z.split(CHUNK)]


def peer_error(z: Tensor, parts: list) -> float:
    import tensorly as tl

    z_hat = torch.cat([tl.tucker_to_tensor(part) for part in parts])
    return ((z - z_hat).norm() / z.norm()).item()


def ours_compress(z: Tensor, labels: Tensor):
    return compress(z, labels, decomposition="st-hosvd", rank_ratio=RATIO, core_dtype="fp32")


def timed(call, *args, **kwargs):
    start = time.perf_counter()
    result = call(*args, **kwargs)
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--clips", type=int, default=93, help="clips per class")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    import tensorly as tl

    tl.set_backend("pytorch")
    np.random.seed(42)  # noqa: NPY002 - DPPy draws from numpy's global generator, as the official code seeds it

    warm = structured_latents(2, 30)
    ours_compress(warm.z, warm.labels)
    select(warm, selector="dpp", kernel="official", k=K)
    peer_compress(warm.z.transpose(1, 2).contiguous())
    peer_select(warm.z.flatten(1).numpy(), warm.labels.numpy())

    latents = structured_latents(args.classes, args.clips)
    frames_first = latents.z.transpose(1, 2).contiguous()  # the peer's layout [N, T, C, H, W], ready before the clock starts
    flat = frames_first.flatten(1).numpy()
    seconds: dict[str, list[float]] = {"ours_select": [], "ours_compress": [], "peer_select": [], "peer_compress": []}
    for seed in range(args.repeats):
        chosen, t = timed(select, latents, selector="dpp", kernel="official", k=K, seed=seed)
        seconds["ours_select"].append(t)
        kept = latents.take(chosen.index)
        ours, t = timed(ours_compress, kept.z, kept.labels)
        seconds["ours_compress"].append(t)

        picks, t = timed(peer_select, flat, latents.labels.numpy())
        seconds["peer_select"].append(t)
        theirs, t = timed(peer_compress, frames_first[picks])
        seconds["peer_compress"].append(t)

    median = {stage: statistics.median(values) for stage, values in seconds.items()}
    total = {who: median[f"{who}_select"] + median[f"{who}_compress"] for who in ("ours", "peer")}
    same = latents.take(torch.from_numpy(picks))
    error = {
        "peer": peer_error(frames_first[picks], theirs),
        "ours_own_selection": ours.error(kept.z),
        "ours_same_clips": ours_compress(same.z, same.labels).error(same.z),
    }
    report = {
        "clips": f"{args.classes * K} of {len(latents)}, 16x4x14x14",
        "threads": torch.get_num_threads(),
        "repeats": args.repeats,
        "seconds": {stage: round(value, 4) for stage, value in median.items()},
        "seconds_all": {stage: [round(value, 4) for value in values] for stage, values in seconds.items()},
        "times_faster": {
            "select": round(median["peer_select"] / median["ours_select"], 1),
            "compress": round(median["peer_compress"] / median["ours_compress"], 1),
            "overall": round(total["peer"] / total["ours"], 1),
        },
        "relative_error": {who: round(value, 6) for who, value in error.items()},
        "error_ratio_same_clips": round(error["ours_same_clips"] / error["peer"], 5),
        "diagnostics": chosen.diagnostics["note"],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
