"""Seconds per clip of the zoo's models, and the sampler against the stock diffusers pipeline: same model, steps and noise, in one process.

python tests/bench/bench_zoo.py [--models lab-unet lab-dit] [--steps 20] [--repeats 5] [--device cpu] [--ratio 1.03]

A clip is 16 frames of 64 x 64 with guidance, decoded. Loading is timed after the imports. The two samplers take turns and the ratio is the
median over the turns. Prints one JSON line a model; exits 1 when a clip takes over its target (2 CPU cores: lab-unet and lab-base 4 s,
lab-dit 1.2 s), loading takes over 3 s, or the ratio is above ``--ratio``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers  # noqa: F401
from clock import timed

from vidistill import shipped, zoo
from vidistill.rng import normal
from vidistill.sample import Denoiser, generate

SECONDS = {"epsilon": 4.0, "flow": 1.2}
PIPELINE = {"epsilon": "TextToVideoSDPipeline", "flow": "WanPipeline"}
PROMPT = "a purple star orbiting over a forest background, camera pan-left"


def stock(model: Denoiser, folder: Path, steps: int) -> Callable[[], torch.Tensor]:
    """Return a call of the stock pipeline that makes the same latents."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = {"vae": None} if model.family == "flow" else {}
        pipe = getattr(diffusers, PIPELINE[model.family]).from_pretrained(str(folder), torch_dtype=torch.float32, **parts).to(model.device)
    pipe.set_progress_bar_config(disable=True)
    extra = {"num_frames": 61, "max_sequence_length": model.tokenizer.model_max_length} if model.family == "flow" else {"num_frames": 16}
    return lambda: (
        pipe(
            [PROMPT],
            negative_prompt=[""],
            height=64,
            width=64,
            num_inference_steps=steps,
            guidance_scale=model.guidance,
            latents=normal([0], "init", model.shape).to(model.device),
            output_type="latent",
            **extra,
        ).frames
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lab-unet", "lab-base", "lab-dit"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ratio", type=float, default=1.03)
    args = parser.parse_args()
    failed = False
    for name in args.models:
        loading = timed(lambda name=name: zoo.load(name, device=args.device))
        model = zoo.load(name, device=args.device)
        theirs = stock(model, shipped.locate(name), args.steps)
        ours = lambda model=model: generate(model, [PROMPT], seeds=[0], steps=args.steps)  # noqa: E731
        same = float((ours() - theirs().float().cpu()).abs().max())
        turns = [(timed(ours), timed(theirs)) for _ in range(args.repeats)]
        clip = statistics.median(timed(lambda model=model, ours=ours: model.codec.decode(ours(), 16)) for _ in range(args.repeats))
        row = {
            "model": name,
            "steps": args.steps,
            "guidance": model.guidance,
            "seconds_per_clip": round(clip, 3),
            "target": SECONDS[model.family],
            "sampler_over_stock": round(statistics.median(a / b for a, b in turns), 3),
            "largest_difference": same,
            "seconds_to_load": round(loading, 2),
            "on": f"{args.device}, {torch.get_num_threads()} threads",
        }
        print(json.dumps(row), flush=True)
        failed |= clip > row["target"] or loading > 3 or row["sampler_over_stock"] > args.ratio
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
