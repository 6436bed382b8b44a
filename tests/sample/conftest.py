"""The stock diffusers pipelines, given what the sampler is given."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vidistill.rng import normal
from vidistill.sample import Denoiser

EXTRA: dict[str, dict[str, Any]] = {"WanPipeline": {"negative_prompt": "", "num_frames": 61}}
"""Arguments of one pipeline alone: 61 frames are 16 latent ones to it, which thinks of its own autoencoder."""


def latents(
    folder: Path,
    model: Denoiser,
    prompts: list[str],
    *,
    seeds: list[int],
    steps: int,
    guidance: float,
    prepare: Callable[[Any], None] = lambda pipe: None,
    **options: Any,
) -> Tensor:
    """Return the last latents of the stock pipeline in ``folder``, begun from the sampler's own noise; ``prepare`` may change it first."""
    import diffusers

    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        none = {"vae": None} if kind == "WanPipeline" else {}
        pipe = getattr(diffusers, kind).from_pretrained(str(folder), torch_dtype=torch.float32, **none)
    pipe.set_progress_bar_config(disable=True)
    parameters = [] if kind == "TextToVideoSDPipeline" else pipe.components[model.network].parameters()
    for p in parameters:  # memory-mapped weights are not aligned, and there alignment decides the last bits
        p.data = p.data.clone()
    prepare(pipe)
    if kind == "WanPipeline":
        options["max_sequence_length"] = model.tokenizer.model_max_length
    return pipe(
        prompts,
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=normal(seeds, "init", model.shape),
        output_type="latent",
        **{"num_frames": 16} | EXTRA.get(kind, {}) | options,
    ).frames


@pytest.fixture
def stock_latents() -> Callable[..., Tensor]:
    """The stock pipeline's latents, see :func:`latents`."""
    return latents
