"""Training data of the zoo's diffusion models: Motion World clips as lab-vae latents, encoded once and kept in the cache.

A shard is keyed by everything that determines it (the factors of its clips, frames, size, the codec's weights), so recipes that ask for the
same clips share them, two recipes at once do no harm, and an interrupted encoding goes on where it stopped. The processes of a run on
several GPUs begin at different shards and so share the work.

Latents are posterior means at unit scale. Shapes: N clips, C = 4 channels, T = 16 frames, H = W = 8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from vidistill.codec import Codec, load_codec
from vidistill.data.world import Factors, factors, render
from vidistill.files import cache_home, digest, ensure_folder, load_tensors, save_tensors
from vidistill.lab.train.captions import caption
from vidistill.rng import stream
from vidistill.types import Progress, silent

TRAIN_SEED, TEST_SEED = 30_000, 8
"""Seeds of the worlds that the recipes learn from and that the cards are measured on; Motion World is deterministic per (seed, index)."""

FRAMES, SIZE = 16, 64
"""Length and side of the zoo's clips."""

SHARD = 512


def train_factors(seed: int, clips: int) -> list[Factors]:
    """Return the factors of the first ``clips`` training clips."""
    return [factors(TRAIN_SEED + seed, index) for index in range(clips)]


def world_latents(records: Sequence[Factors], codec: Codec, *, progress: Progress = silent) -> Tensor:
    """Render and encode clips, or read them from the cache: float16 ``[N, C, T, H, W]``, posterior means at unit scale.

    Args:
        records: what to render.
        codec: a frame codec (lab-vae).
        progress: called after each shard of 512 clips.
    """

    def encode(rows: slice) -> Tensor:
        return torch.cat([codec.encode(render(some, FRAMES, SIZE)) for some in in_parts(records[rows], 64)]).half()

    return torch.cat(shards("world-latents", "latents", records, codec, SHARD, encode, "render and encode", progress))


def in_parts(records: Sequence[Factors], size: int) -> list[Sequence[Factors]]:
    """Return the records in parts of ``size``, the last one shorter."""
    return [records[start : start + size] for start in range(0, len(records), size)]


def shards(
    home: str,
    what: str,
    records: Sequence[Factors],
    codec: Codec,
    size: int,
    make: Callable[[slice], Tensor],
    stage: str,
    progress: Progress,
) -> list[Tensor]:
    """Return one tensor for each ``size`` clips, made or read from the cache; a key is the clips' factors and the codec's weights.

    Args:
        home: folder of the cache.
        what: name of the tensor in its file.
        records: the clips.
        codec: what they pass through.
        size: clips of a shard.
        make: rows of ``records`` -> their shard.
        stage, progress: called after each shard, in clips.
    """
    folder, done, parts = ensure_folder(cache_home() / home), 0, in_parts(records, size)
    tensors: list[Tensor] = [torch.empty(0)] * len(parts)
    first = len(parts) * int(os.environ.get("RANK", 0)) // int(os.environ.get("WORLD_SIZE", 1))
    for i in [*range(first, len(parts)), *range(first)]:
        clips = [record.as_dict() for record in parts[i]]
        key = digest({"codec": codec.fingerprint, "frames": FRAMES, "size": SIZE, "clips": clips}, 32)
        path = folder / f"{key}.safetensors"
        if not path.exists():
            save_tensors(path, {what: make(slice(i * size, i * size + len(clips)))})
        tensors[i], done = load_tensors(path)[0][what], done + len(clips)
        progress(stage, done, len(records))
    return tensors


class Order:
    """Which of ``count`` clips a batch holds: every clip once an epoch; the stream ``(seed, *path, epoch)`` shuffles an epoch."""

    def __init__(self, count: int, seed: int, *path: str) -> None:
        self.count, self.seed, self.path = count, seed, path

    def rows(self, k: int, batch: int) -> list[tuple[int, int]]:
        """Return ``(epoch, clip)`` of each row of batch ``k``."""
        places = (divmod(place, self.count) for place in range(k * batch, (k + 1) * batch))
        return [(epoch, self._shuffled(epoch)[place]) for epoch, place in places]

    @lru_cache(maxsize=2)  # noqa: B019
    def _shuffled(self, epoch: int) -> list[int]:
        return torch.randperm(self.count, generator=stream(self.seed, *self.path, epoch)).tolist()


class Bank:
    """Latents and captions of the training clips, drawn in an order that depends on the seed alone.

    Args:
        seed: of the run.
        clips: how many.
        device: where clips are encoded and latents are held.
        progress: called while clips are rendered and encoded.
    """

    def __init__(self, seed: int, clips: int, *, device: str | torch.device = "cpu", progress: Progress = silent) -> None:
        self.seed = seed
        self.records = train_factors(seed, clips)
        self.latents = self.encode(load_codec("lab-vae", device=device), progress).to(device)
        self.order = Order(len(self.records), seed, "order")

    def encode(self, codec: Codec, progress: Progress) -> Tensor:
        """Return the latents of ``records``, float16 on the CPU."""
        return world_latents(self.records, codec, progress=progress)

    def draw(self, k: int, batch: int) -> tuple[Tensor, list[str]]:
        """Return latents, float32 ``[B, C, T, H, W]``, and captions of batch ``k``."""
        rows = self.order.rows(k, batch)
        return self.latents[[i for _, i in rows]].float(), [caption(self.records[i], self.seed, epoch, i) for epoch, i in rows]
