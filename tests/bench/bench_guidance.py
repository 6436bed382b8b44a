"""What guidance and batches cost: the sampler with and without operators, and eight clips at once against eight one by one, in one process.

python tests/bench/bench_guidance.py [--models lab-unet lab-dit] [--steps 10] [--repeats 7] [--device cpu]

A clip is 16 latent frames of 8 x 8 with guidance, not decoded. Plain and guided runs take turns; a ratio is the median over the turns. The
operators are a pull with every weight in turn and a low-pass over all steps. Prints one JSON line a model, on a GPU with the peak memory of
a batch of eight; exits 1 when operators add more than 3 % (``--operators``), or eight at once give less than 1.2 times the clips per second
(``--batch``). The loop itself is held against the stock diffusers pipelines by bench_zoo.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
from clock import timed

from vidistill import zoo
from vidistill.guide import LowPass, Operator, Pull
from vidistill.rng import normal
from vidistill.sample import Denoiser, sample
from vidistill.schedule import WEIGHTS

PROMPT = "a purple star orbiting over a forest background, camera pan-left"


def run(model: Denoiser, seeds: list[int], steps: int, operators: list[Operator]) -> Callable[[], None]:
    def call() -> None:
        for _ in sample(model, [PROMPT] * len(seeds), seeds=seeds, steps=steps, operators=operators):
            pass

    return call


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lab-unet", "lab-dit"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--operators", type=float, default=1.03)
    parser.add_argument("--batch", type=float, default=1.2)
    args = parser.parse_args()
    failed = False
    for name in args.models:
        model = zoo.load(name, device=args.device)
        centre = normal([1], "centre", model.shape).to(model.device)
        plain = run(model, [0], args.steps, [])
        guided: dict[str, float] = {}
        plain()
        operators: dict[str, Operator] = {weight: Pull(centre, 0.1, weight) for weight in WEIGHTS}
        for label, operator in (operators | {"low-pass": LowPass()}).items():
            call = run(model, [0], args.steps, [operator])
            call()
            turns = [(timed(call), timed(plain)) for _ in range(args.repeats)]
            guided[label] = round(statistics.median(a / b for a, b in turns), 3)
        seeds = list(range(8))
        together, alone = run(model, seeds, args.steps, []), [run(model, [seed], args.steps, []) for seed in seeds]
        together()
        faster = statistics.median(sum(timed(call) for call in alone) / timed(together) for _ in range(max(3, args.repeats // 2)))
        row = {
            "model": name,
            "steps": args.steps,
            "with_operator_over_without": guided,
            "eight_at_once_over_one_by_one": round(faster, 3),
            "on": f"{args.device}, {torch.get_num_threads()} threads",
        }
        if args.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
            together()
            row["peak_bytes_of_eight"] = torch.cuda.max_memory_allocated()
        print(json.dumps(row), flush=True)
        failed |= max(guided.values()) > args.operators or faster < args.batch
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
