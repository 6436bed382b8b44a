"""A distilled set of pixels: clips as they are, with hard and soft labels, in one safetensors file counted to the byte.

The other kind of set, latents and the decoder that turns them into pixels, is in ``store.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.compress.store import smallest_int
from vidistill.errors import InputError
from vidistill.files import load_tensors, save_tensors

FORMAT = "vidistill-clips-1"


@dataclass(frozen=True)
class StoredClips:
    """What a file of clips gives back.

    Attributes:
        video: uint8 ``[N, 3, T, S, S]``. labels: int64 ``[N]``. classes: their names.
        soft: a teacher's logits, float32 ``[N, K]``, or None.
        source: where each frame comes from, int64 ``[N, T, 2]``: video of the class and frame of the video; or None.
        meta: what else was recorded.
    """

    video: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    soft: Tensor | None
    source: Tensor | None
    meta: dict[str, Any]


def save_clips(
    path: str | Path,
    video: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    soft: Tensor | None = None,
    source: Tensor | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Write a set of clips atomically and return its exact bytes by part.

    Args:
        path: the file.
        video: uint8 ``[N, 3, T, S, S]``.
        labels: int64 ``[N]``, indices into ``classes``.
        soft: a teacher's logits ``[N, K]``, stored as float16.
        source: where each frame comes from ``[N, T, 2]``; stored as the smallest integers that hold it.
        meta: further JSON-able facts.

    Returns:
        ``{"pixels", "soft_labels", "labels", "header", "total"}``; total is the length of the file and the sum of the others.

    Raises:
        InputError: shapes do not match, or the file cannot be written.
    """
    n = len(video)
    if video.dtype != torch.uint8 or video.ndim != 5 or len(labels) != n or (soft is not None and soft.shape != (n, len(classes))):
        raise InputError(
            f"a set of clips needs uint8 [N, 3, T, S, S], N labels and, where there are soft labels, [N, {len(classes)}] of them; got "
            f"{video.dtype} {tuple(video.shape)}, {len(labels)} labels" + ("" if soft is None else f", {tuple(soft.shape)} soft ones")
        )
    tensors = {"video": video, "labels": labels.to(smallest_int(len(classes)))}
    if soft is not None:
        tensors["soft"] = soft.half()
    if source is not None:
        tensors["source"] = source.to(smallest_int(int(source.max()) + 1))
    about = {"format": FORMAT, "classes": list(classes), "meta": dict(meta or {})}
    total = save_tensors(path, tensors, {"record": json.dumps(about, sort_keys=True)})  # one entry: their order in a file is random
    size = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    parts = {"pixels": size["video"], "soft_labels": size.get("soft", 0), "labels": size["labels"] + size.get("source", 0)}
    return parts | {"header": total - sum(parts.values()), "total": total}


def load_clips(path: str | Path) -> StoredClips:
    """Read a set of clips.

    Raises:
        InputError: the file is missing, damaged or no set of clips.
    """
    tensors, metadata = load_tensors(path)
    about = json.loads(metadata.get("record", "{}"))
    if about.get("format") != FORMAT:
        raise InputError(f"{path} is no set of clips ({about.get('format', 'no format')}); one is written by save_clips")
    soft, source = tensors.get("soft"), tensors.get("source")
    return StoredClips(
        tensors["video"],
        tensors["labels"].long(),
        tuple(about["classes"]),
        None if soft is None else soft.float(),
        None if source is None else source.long(),
        about["meta"],
    )
