"""What a full-size distillation will take, before anything is loaded: weights, memory, caches, trajectories, updates; with the arithmetic.

    a weight that learns    16 bytes: itself, its gradient and AdamW's two moments, float32 each
    a frozen weight         2 (bf16) or 4 (float32)
    LoRA of rank r          r (in + out) weights for each adapted layer; teacher, student and critic share one frozen base
    full weights            a student and a critic that learn, and a frozen teacher
    tokens of a clip        N = T' H' W' / (p_t p_h p_w), of the latent grid and the transformer's patches
    activations             checkpointed: one input a block kept, l B N d, and one block at work; else all blocks at work
    a block at work         about B N (16 d + 2 f) values: d the width, f the feed-forward's

The last two are estimates (attention holds no N x N matrix); ``tests/bench/bench_distill.py`` measures. Sizes are GiB of 2^30 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from vidistill.codec import DTYPES
from vidistill.codec.autoencoder import autoencoder_class, geometry
from vidistill.distill import METHODS, Heads, critic_updates
from vidistill.distill.lora import TARGETS
from vidistill.distill.recipe import Recipe
from vidistill.distill.trajectory import sizes
from vidistill.errors import InputError
from vidistill.files import load_json

LEARNS = 16
"""Bytes of a weight that learns."""


def shapes(folder: Any, frames: int, size: Sequence[int]) -> dict[str, Any]:
    """Return what a Wan pipeline's configurations say; no weight is read.

    Args:
        folder: of the pipeline.
        frames, size: of a clip, (height, width).

    Returns:
        ``weights`` of the transformer, its ``layers``, ``width``, ``ffn``, ``linear`` (in + out of all adapted layers), ``latent`` shape,
        ``tokens`` of a clip, numbers of an embedded caption (``words``).

    Raises:
        InputError: latents of that size cannot be cut into the transformer's patches.
    """
    from diffusers import WanTransformer3DModel

    config = load_json(folder / "transformer" / "config.json")
    vae = load_json(folder / "vae" / "config.json")
    with torch.device("meta"):
        net: Any = WanTransformer3DModel.from_config(config)
        codec = autoencoder_class(str(vae.get("_class_name")), str(folder / "vae")).from_config(vae)
    channels, f_space, f_time = geometry(type(codec).__name__, dict(codec.config), codec)
    latent = (channels, math.ceil((frames - 1) / f_time) + 1, *(math.ceil(side / f_space) for side in size))
    patch = net.config.patch_size
    if any(length % p for length, p in zip(latent[1:], patch, strict=True)):
        told, cells = "x".join(map(str, size)), " x ".join(map(str, latent[1:]))
        step = [f_space * p for p in patch[1:]]
        raise InputError(
            f"{frames} frames of {told} are {cells} cells, which patches of {' x '.join(map(str, patch))} do not divide: "
            f"take a height that is a multiple of {step[0]} and a width of {step[1]}"
        )
    linear = [
        part.in_features + part.out_features
        for name, part in net.named_modules()
        if isinstance(part, torch.nn.Linear) and name.endswith(tuple(f".{target}" for target in TARGETS))
    ]
    width = net.config.num_attention_heads * net.config.attention_head_dim
    return {
        "weights": sum(w.numel() for w in net.parameters()),
        "layers": net.config.num_layers,
        "width": width,
        "ffn": net.config.ffn_dim,
        "linear": sum(linear),
        "latent": latent,
        "tokens": math.prod(latent[1:]) // math.prod(patch),
        "words": net.config.text_dim * _length(folder),
    }


def _length(folder: Any) -> int:
    """Return the padded length of a caption."""
    path = folder / "tokenizer" / "tokenizer_config.json"
    length = load_json(path).get("model_max_length", 512) if path.is_file() else 512
    return int(length) if isinstance(length, int | float) and length < 2**20 else 512


def numbers(
    shape: dict[str, Any],
    recipe: Recipe,
    *,
    lora: int,
    batch: int,
    clips: int,
    captions: int,
    protocol: tuple[int, int, int],
    records: int,
    steps: int,
    frozen: str,
    checkpointing: bool,
    world: int = 1,
) -> dict[str, float]:
    """Return the plan in numbers: bytes, but for ``adapter``, ``learning``, ``heads`` (weights), ``samples``, ``iterations``, ``critic``.

    Args:
        shape: see :func:`shapes`.
        recipe: what is done.
        lora: rank, 0 for full weights.
        batch: over all processes.
        clips, captions: how many.
        protocol: frames, height, width of a clip.
        records, steps: trajectories, and steps of one.
        frozen: ``"bf16"`` or ``"fp32"``, of weights that do not learn.
        checkpointing: see the head of this file.
        world: processes.
    """
    method, m = METHODS[recipe.method], len(recipe.times) - 1
    heads = sum(w.numel() for w in Heads(shape["width"], head_count(recipe)).parameters()) if method.heads(recipe) else 0
    adapter = lora * shape["linear"]
    learning = (adapter if lora else shape["weights"]) * (2 if method.critic else 1) + heads
    held = DTYPES[frozen].itemsize
    rows, cells = max(1, batch // world), shape["tokens"] * shape["width"]
    block = rows * shape["tokens"] * (16 * shape["width"] + 2 * shape["ffn"])
    active = (shape["layers"] * rows * cells + block) if checkpointing else shape["layers"] * block
    paths = needs_paths(recipe)
    store = sizes(shape["latent"], m, steps=steps)
    return {
        "adapter": adapter,
        "learning": learning,
        "heads": heads,
        "base": shape["weights"] * held,
        "trained": learning * LEARNS,
        "active": active * DTYPES["bf16" if recipe.precision == "bf16" else "fp32"].itemsize,
        "latents": 0 if paths else clips * math.prod(shape["latent"]) * 2,
        "decoded": 0 if paths else clips * 3 * math.prod(protocol),
        "captions": (captions + 1) * shape["words"] * held,
        "kept": records * store["kept"] if paths else 0,
        "whole": records * store["whole"] if paths else 0,
        "samples": recipe.updates * batch * (m if recipe.method == "accvideo" else 1),  # a pass sees a batch at each key time
        "iterations": recipe.updates * (recipe.student_update_freq if method.critic else 1),
        "critic": critic_updates(recipe.updates, recipe.student_update_freq, recipe.counting) if method.critic else 0,
    }


def needs_paths(recipe: Recipe) -> bool:
    """Return whether a method learns from stored trajectories instead of clips."""
    return recipe.method in ("kd", "trajectory", "accvideo")


def head_count(recipe: Recipe) -> int:
    """Return the number of discriminator heads: one for each key time (AccVideo), one for a GAN on noised samples."""
    return len(recipe.times) - 1 if recipe.method == "accvideo" else 1


def size_of(count: float) -> str:
    """Return bytes in words."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**28 else f"{count / 2**20:,.1f} MiB"
