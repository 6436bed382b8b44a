"""Randomness with an owner: every draw comes from a generator named by a seed and a path, never from global state.

Noise is drawn on the CPU in float32 and moved afterwards, so the same seed gives the same clip on any device and at any batch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def stream_seed(seed: int, *path: str | int) -> int:
    """Return the 63-bit seed of the stream ``path`` under ``seed``: the head of SHA-256("seed/path/...")."""
    text = "/".join(str(part) for part in (int(seed), *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *path: str | int) -> torch.Generator:
    """Return a fresh CPU generator for the named stream, e.g. ``stream(seed, "select", class_name)``."""
    return torch.Generator().manual_seed(stream_seed(seed, *path))


def normal(seeds: Iterable[int], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal noise ``[B, *shape]`` (float32, CPU), row ``i`` from the stream ``name`` of ``seeds[i]`` alone."""
    return torch.stack([torch.randn(shape, generator=stream(seed, name)) for seed in seeds])
