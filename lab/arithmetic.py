"""Claims that are arithmetic: what the papers' own numbers of bytes and frames come to, as exact numbers for the cards.

Nothing is run here. A set of N clips has latents ``[C, T, H, W]``; sizes are in MiB, which is what the papers call MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vidistill.compress import official_bytes, ranks_from_ratio
from vidistill.measure import exact

MIB = 2**20
RATIO = 0.75
INSTANCES = 24
"""Clips per class of LVDD's IPC 1."""

SETS = {"MiniUCF": (50, 16, 112), "HMDB51": (51, 16, 112), "K400": (400, 8, 64), "SSv2": (174, 16, 112)}
"""Data set -> classes, frames of a clip, pixels of its side."""

TRAIN = {"MiniUCF": 4662, "HMDB51": 5236}
"""Training clips, where the split is public."""

SD_VAE = 83_653_863
"""Weights of sd-vae-ft-mse; as int8 a byte each, the scales of its channels left out."""

CV_VAE, CV_LINEAR = 182_446_475, 1_050_624
"""Weights of CV-VAE, and those of them in linear layers: the paper's scheme has these as int8 and the rest as fp16."""

CV_BYTES = 2 * (CV_VAE - CV_LINEAR) + CV_LINEAR

CLAIMED_SHARE = 68.0
"""Percent of the pixels' storage that SSv2 takes at most, as LVDD says; of which pixels it does not say."""

Rows = dict[str, Mapping[str, Any]]
"""Name of an arm -> measure -> :func:`vidistill.measure.exact`."""


def storage_rows() -> Rows:
    """Return the storage that LVDD claims, by every accounting that its text and its code allow.

    At IPC 1 a set is ``INSTANCES`` clips a class through SD-VAE: ``"one decomposition"`` of all of them with its N x N factor,
    ``"chunks of 400"`` as the shipped code has it, ``"raw latents"`` in fp32, or ``"pixels"``, one fp32 clip a class. The count of IPC 5
    is in neither paper nor code; ``"every clip"`` is the most that it can be, through CV-VAE. Measures: ``cores`` (cores and factors),
    ``storage`` (with the VAE), ``share`` (percent of the pixels), ``saved`` (percent of fp32), ``times`` (fp32 over it).
    """
    rows: Rows = {}
    for name, (classes, frames, size) in SETS.items():
        shape, n = (4, frames, size // 8, size // 8), INSTANCES * classes
        ranks = ranks_from_ratio(shape, RATIO)
        rows[f"{name}, IPC 1, one decomposition"] = _stored(official_bytes(n, shape, ranks, None), SD_VAE)
        rows[f"{name}, IPC 1, chunks of 400"] = _stored(official_bytes(n, shape, ranks), SD_VAE)
        rows[f"{name}, IPC 1, raw latents"] = _stored(4 * n * math.prod(shape), SD_VAE)
        for ipc in (1, 5):
            rows[f"{name}, IPC {ipc}, pixels"] = _stored(_pixels(ipc * classes, frames, size), 0)
    for name, n in TRAIN.items():
        shape = (4, 4, 14, 14)
        rows[f"{name}, IPC 5, every clip"] = _stored(official_bytes(n, shape, ranks_from_ratio(shape, RATIO), None), CV_BYTES)
    whole, classes = rows["SSv2, IPC 1, one decomposition"]["storage"]["mean"], SETS["SSv2"][0]
    for frames, size in ((16, 112), (8, 64)):
        share = 100 * whole * MIB / _pixels(classes, frames, size)
        rows[f"SSv2, of {frames} x {size} x {size} pixels"] = {"share": exact(share)}
    rows["at most 68 %"] = {"share": exact(CLAIMED_SHARE)}
    for kind, size in {"fp32": 4, "fp16": 2, "int8": 1}.items():
        rows[f"SD-VAE, {kind}"] = {"storage": exact(size * SD_VAE / MIB), "saved": exact(100 * (1 - size / 4))}
    rows["CV-VAE, fp16"] = {"times": exact(2.0)}
    rows["CV-VAE, fp16 and int8"] = {"times": exact(4 * CV_VAE / CV_BYTES)}
    return rows


def frame_rows() -> Rows:
    """Return which share of the frames that students sample GVD's sets of 20 instances a class are, in percent (``frames``).

    The paper's own shares are of all decoded frames of the training videos; a student sees 16 of each.
    """
    rows: Rows = {"every sampled frame": {"frames": exact(100.0)}}
    for name, clips in TRAIN.items():
        rows[f"{name}, IPC 20"] = {"frames": exact(100 * 20 * SETS[name][0] / clips)}
    return rows


def _stored(payload: int, codec: int) -> Mapping[str, Any]:
    return {"cores": exact(payload / MIB), "storage": exact((payload + codec) / MIB)}


def _pixels(clips: int, frames: int, size: int) -> int:
    """Return the bytes of so many fp32 clips of three colours."""
    return 4 * clips * frames * 3 * size * size
