"""What a teacher costs: guided runs against what their evaluations predict, and the low-pass filter against a triple loop.

python tests/bench/bench_videoguide.py [--pairs lab-unet:lab-unet lab-base:lab-dit] [--steps 10] [--repeats 7] [--device cpu]

A clip is 16 latent frames of 8 x 8 with guidance, not decoded. A guided run of N steps with I guided ones should last as long as N steps of
the base and I tau of the teacher: N + I tau evaluations, where both are one model. Base, teacher and guided runs take turns; the ratio of
measured to predicted time is the median over the turns. The filter is that of 16 x 64 x 64 latents. Prints one JSON line a pair and one
for the filter; exits 1 when a guided run needs more than 1.05 times its prediction (``--over``), or the filter is less than 50 times faster
than the loop (``--faster``) or built more than once.
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
from vidistill.guide import Cfg, CfgPlus, LowPass, Operator, Switch, low_pass_mask
from vidistill.sample import Denoiser, Teacher, sample
from vidistill.schedule import First

PROMPT = "a red star orbiting over a navy background"
GUIDANCE = 3.5
SHAPE, CUT, ORDER = (16, 64, 64), 0.25, 4


def run(model: Denoiser, steps: int, guidance: float | Switch, operators: list[Operator]) -> Callable[[], int]:
    def call() -> int:
        *_, step = sample(model, [PROMPT], seeds=[0], steps=steps, guidance=guidance, operators=operators)
        return step.evaluations

    return call


def loop() -> list[float]:
    """Build Butterworth's mask mode by mode."""
    values = []
    for t in range(SHAPE[0]):
        for h in range(SHAPE[1]):
            for w in range(SHAPE[2]):
                d2 = sum((2 * k / n - 1) ** 2 for k, n in zip((t, h, w), SHAPE, strict=True))
                values.append(1 / (1 + (d2 / CUT**2) ** ORDER))
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=["lab-unet:lab-unet", "lab-dit:lab-dit", "lab-base:lab-dit"], help="base:teacher")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guided", type=int, default=4)
    parser.add_argument("--tau", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--over", type=float, default=1.05)
    parser.add_argument("--faster", type=float, default=50)
    args = parser.parse_args()
    on, failed, first = f"{args.device}, {torch.get_num_threads()} threads", False, First(args.guided)
    for pair in args.pairs:
        base_name, teacher_name = pair.split(":")
        base = zoo.load(base_name, device=args.device)
        teacher = base if teacher_name == base_name else zoo.load(teacher_name, device=args.device)
        guide = Teacher(teacher, base, [PROMPT], tau=args.tau, interval=first)
        switch = Switch(CfgPlus(0.8), Cfg(GUIDANCE), first)
        guided = run(base, args.steps, switch, [guide, LowPass(interval=first)])
        plain, other = (run(model, args.steps, GUIDANCE, []) for model in (base, teacher))
        evaluations, extra = guided(), args.guided * args.tau
        assert evaluations == 2 * (args.steps + extra)
        plain(), other()
        turns = [(timed(guided), timed(plain), timed(other)) for _ in range(args.repeats)]
        ratio = statistics.median(g / (p + o * extra / args.steps) for g, p, o in turns)
        row = {
            "base": base_name,
            "teacher": teacher_name,
            "steps": args.steps,
            "evaluations_over_plain": round(evaluations / (2 * args.steps), 3),
            "time_over_plain": round(statistics.median(g / p for g, p, _ in turns), 3),
            "time_over_predicted": round(ratio, 3),
            "on": on,
        }
        print(json.dumps(row), flush=True)
        failed |= ratio > args.over
    build = lambda: low_pass_mask.__wrapped__("butterworth", SHAPE, CUT, CUT, ORDER)  # noqa: E731
    mask = torch.tensor(loop(), dtype=torch.float64).view(SHAPE)
    assert torch.allclose(torch.fft.ifftshift(mask), build().double(), atol=1e-6)
    faster = statistics.median(timed(loop) / timed(build) for _ in range(args.repeats))
    low_pass_mask.cache_clear()
    filtered = [LowPass(CUT, CUT, ORDER, interval=First(10))]
    for _ in range(2):
        run(base, 10, GUIDANCE, filtered)()
    built = low_pass_mask.cache_info().misses
    print(json.dumps({"filter": SHAPE, "faster_than_a_triple_loop": round(faster), "built": built, "on": on}), flush=True)
    return int(failed or faster < args.faster or built != 1)


if __name__ == "__main__":
    sys.exit(main())
