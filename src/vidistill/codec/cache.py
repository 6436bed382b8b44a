"""Latents are computed once: fp16 shards on disk, keyed by everything that determines them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vidistill.codec.autoencoder import Codec
from vidistill.errors import InputError, choose
from vidistill.files import cache_home, digest, ensure_folder, load_tensors, save_tensors
from vidistill.rng import stream_seed
from vidistill.types import Latents, Progress, silent

SHARD = 64
"""Clips in one file."""


class Clips(Protocol):
    """What is asked of a store of decoded clips (``vidistill.data.ClipStore`` is one)."""

    labels: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    key: str

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[tuple[int, Tensor]]: ...


def encode_store(
    codec: Codec,
    clips: Clips,
    *,
    latent: str = "mode",
    seed: int = 0,
    cache: str | Path | None = None,
    batch_frames: int = 256,
    shard: int | None = None,
    progress: Progress = silent,
) -> Latents:
    """Encode all clips, or read what an earlier call left in the cache; the same values either way (they pass through fp16).

    Args:
        codec: the encoder.
        clips: decoded clips; ``batches(size)`` yields ``(start, uint8 [b, 3, T, H, W])`` in order.
        latent: ``"mode"`` or ``"sample"``; clip i is drawn with the stream ``(seed, "latent", i)``.
        seed: only used by ``"sample"``.
        cache: cache folder; default :func:`vidistill.files.cache_home`.
        batch_frames: at most so many frames per call of the network.
        shard: clips in one file, and in memory at once; default ``SHARD``.
        progress: called after each shard.

    Returns:
        :class:`vidistill.types.Latents`, float32.

    Raises:
        InputError: there are no clips, a value does not fit fp16, or the cache cannot be written.
    """
    choose("latent", latent, ("mode", "sample"))
    if len(clips) == 0:
        raise InputError("there are no clips to encode")
    key = digest(["latents-1", codec.fingerprint, clips.key, latent, seed if latent == "sample" else None])
    folder = ensure_folder(Path(cache or cache_home()) / "latents" / key)
    shard = shard or SHARD
    starts = range(0, len(clips), shard)
    shards = {start: _read(folder / f"{start:07d}.safetensors", min(shard, len(clips) - start)) for start in starts}
    done = sum(part is not None for part in shards.values())
    progress("encode", done, len(shards))
    if done < len(shards):
        for start, video in clips.batches(shard):
            if shards[start] is not None:
                continue
            seeds = [stream_seed(seed, "latent", start + row) for row in range(len(video))]
            z = codec.encode(video, latent=latent, seeds=seeds, batch_frames=batch_frames)
            half = z.to("cpu", torch.float16)
            if not half.isfinite().all():
                raise InputError(
                    f"codec {codec.id}: latents of clips {start} to {start + len(video) - 1} do not fit fp16; try another codec dtype"
                )
            frames = torch.tensor(video.shape[2])
            save_tensors(folder / f"{start:07d}.safetensors", {"z": half, "frames": frames})
            shards[start] = half, frames
            done += 1
            progress("encode", done, len(shards))
    parts = [shards[start] for start in starts]
    return Latents(
        z=torch.cat([part[0] for part in parts if part is not None]).float(),
        labels=clips.labels,
        names=tuple(clips.names),
        classes=tuple(clips.classes),
        groups=tuple(clips.groups),
        frames=int(parts[0][1]) if parts[0] is not None else 0,
    )


def _read(path: Path, count: int) -> tuple[Tensor, Tensor] | None:
    """Return ``(z, frames)`` of a shard, or None when it is absent, damaged or of another length (it is then computed again)."""
    if not path.exists():
        return None
    try:
        tensors, _ = load_tensors(path)
        return (tensors["z"], tensors["frames"]) if len(tensors["z"]) == count else None
    except (InputError, KeyError):
        return None
