"""Memory and samples a second of few-step distillation, LoRA on one base beside full weights, in one process on one device.

Each arm runs DFD on the same small randomly initialised Wan transformer, clips and captions, with the library's trainer. What is reported:
samples a second (of the student's batches, the critic's updates included), bytes of weights that learn (with gradients and moments) and of
frozen ones, counted, peak memory (CUDA: the allocator's; CPU: the process's, LoRA runs first), and ratios between the arms.

Projection to Wan 2.1 1.3 B at 480 x 832, 81 frames, by parameters x tokens and attention's tokens x tokens:

    flops(l, d, f, N) = 2 l N (6 d^2 + 2 d f + 2 N d)     l layers of width d, feed-forward f, N tokens: a token passes through six d x d
    samples/s there = samples/s here x flops(here) / flops(there)      (self 4, cross 2) and two d x f matrices, and meets N others twice

A small model does not fill a GPU: take --width and --cells as large as they fit there. On a CPU it says how long not to wait.

    python tests/bench/bench_distill.py [--device cpu] [--layers 4] [--width 192] [--updates 3] [--rank 16] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from typing import Any

import torch
from clock import timed
from diffusers import WanTransformer3DModel

from vidistill.distill import FlowNet, Nets, Recipe, Trainer, in_memory
from vidistill.distill.lora import Base, adapted
from vidistill.distill.nets import halved
from vidistill.lab.distill import peak_memory
from vidistill.rng import stream

WAN = {"layers": 30, "width": 1536, "ffn": 8960, "tokens": 32_760, "weights": 1_418_996_800, "lora": 64}
"""Wan 2.1 1.3 B, and the clip that it is made for: 16 x 21 x 60 x 104 latents in patches of 1 x 2 x 2; the rank of the command."""

WORDS, TEXT = 32, 128


def flops(layers: int, width: int, ffn: int, tokens: int) -> float:
    """Return the multiply-adds, times two, of a forward pass for a clip."""
    return 2.0 * layers * tokens * (6 * width**2 + 2 * width * ffn + 2 * tokens * width)


def transformer(layers: int, width: int, ffn: int, device: str) -> Any:
    """Return a random Wan transformer with heads of 64."""
    torch.manual_seed(0)
    shape = {"num_attention_heads": width // 64, "attention_head_dim": 64, "in_channels": 16, "out_channels": 16, "text_dim": TEXT}
    return WanTransformer3DModel(patch_size=(1, 2, 2), ffn_dim=ffn, num_layers=layers, freq_dim=64, **shape).to(device)


def trainer(arm: str, args: argparse.Namespace) -> tuple[Trainer, dict[str, float]]:
    """Return a run and the bytes that its weights take."""
    net, on_gpu = transformer(args.layers, args.width, args.ffn, args.device), args.device.startswith("cuda")
    recipe = Recipe("dfd", updates=args.updates + 1, counting="fastgen", precision="bf16" if on_gpu else "fp32")
    draws = stream(0, "bench")
    x0 = torch.randn(8, 16, args.frames, args.cells, args.cells, generator=draws)
    data = in_memory(args.batch, x0=x0, c=torch.randn(8, WORDS, TEXT, generator=draws))
    if arm == "lora":
        base = Base(halved(net) if on_gpu else net, args.rank)
        base.transformer.to(args.device)
        base.checkpoint()
        nets, frozen = adapted(base), [w for w in base.transformer.parameters() if not w.requires_grad]
    else:
        student, critic = (FlowNet(copy.deepcopy(net).requires_grad_(True)) for _ in range(2))
        for one in (student, critic):
            one.transformer.enable_gradient_checkpointing()
        teacher = FlowNet(halved(net) if on_gpu else net)
        nets, frozen = Nets(student, teacher, critic), list(teacher.parameters())
    run = Trainer(recipe, nets, data, device=args.device)
    learning = [w for one in run.learning.values() for w in one.parameters() if w.requires_grad]
    return run, {"frozen": sum(w.numel() * w.element_size() for w in frozen), "learns": 16.0 * sum(w.numel() for w in learning)}


def measure(arm: str, args: argparse.Namespace) -> dict[str, float]:
    """Return one arm's samples a second and memory."""
    run, held = trainer(arm, args)
    steps, every = run.steps(), run.recipe.student_update_freq
    for _ in range(every):  # the first round pays for what later ones find
        next(steps)
    if args.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: [next(steps) for _ in range(args.updates * every)])
    return {"samples/s": args.updates * args.batch / seconds, "peak": float(peak_memory(torch.device(args.device))), **held}


def projected(row: dict[str, float], arm: str, args: argparse.Namespace) -> dict[str, float]:
    """Return samples a second and bytes of weights of Wan 1.3 B, by the formulas at the head of this file."""
    tokens = args.frames * (args.cells // 2) ** 2
    share = flops(args.layers, args.width, args.ffn, tokens) / flops(*(int(WAN[key]) for key in ("layers", "width", "ffn", "tokens")))
    layer = 8 * 2 * WAN["width"] + 2 * (WAN["width"] + WAN["ffn"])
    learning = 2 * (WAN["lora"] * WAN["layers"] * layer if arm == "lora" else WAN["weights"])
    return {"samples/s": row["samples/s"] * share, "frozen": 2.0 * WAN["weights"], "learns": 16.0 * learning}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = {"layers": 4, "width": 192, "ffn": 768, "frames": 4, "cells": 16, "batch": 1, "updates": 3, "rank": 16}
    for name, default in shape.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", help="also write the numbers to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    kind = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"cpu, {torch.get_num_threads()} threads"
    weights = sum(w.numel() for w in transformer(args.layers, args.width, args.ffn, "meta").parameters())
    tokens = args.frames * (args.cells // 2) ** 2
    print(f"{kind}: DFD, {weights:,} weights, {tokens:,} tokens a clip, batch {args.batch}, LoRA of rank {args.rank}, checkpointed")
    rows = {arm: measure(arm, args) for arm in ("lora", "full")}
    there = {arm: projected(row, arm, args) for arm, row in rows.items()}
    mib = 2**20
    for arm, row in rows.items():
        held = f"{row['learns'] / mib:,.1f} MiB learn, {row['frozen'] / mib:,.1f} MiB frozen, peak {row['peak'] / mib:,.0f} MiB"
        print(f"  {arm}: {row['samples/s']:.3f} samples/s; {held}")
    ratio = {
        "samples/s": rows["lora"]["samples/s"] / rows["full"]["samples/s"],
        "bytes": (rows["full"]["learns"] + rows["full"]["frozen"]) / (rows["lora"]["learns"] + rows["lora"]["frozen"]),
    }
    print(f"  lora / full: {ratio['samples/s']:.2f} of the samples/s; full / lora: {ratio['bytes']:.1f} of the bytes")
    print(f"projected to Wan 2.1 1.3 B, 81 x 480 x 832 ({WAN['tokens']:,} tokens), LoRA of rank {WAN['lora']}, this device:")
    for arm, row in there.items():
        speed = f"{row['samples/s']:.2e} samples/s ({1 / row['samples/s'] / 3600:,.2f} h a sample)"
        print(f"  {arm}: {speed}; {row['learns'] / 2**30:,.1f} GiB learn, {row['frozen'] / 2**30:,.1f} GiB frozen, without activations")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as handle:
            json.dump({"device": kind, "here": rows, "wan": there, "ratio": ratio}, handle, indent=2)


if __name__ == "__main__":
    main()
