"""What few steps save: a student's clip against its teacher's 50 guided steps, in one run, taking turns.

python tests/bench/bench_few_step.py [--students lab-dit-kd4 lab-dit-accvideo5 ...] [--teacher lab-dit] [--steps 50] [--repeats 5]

A clip is 16 latent frames of 8 x 8, sampled, and once more with its decoding. The teacher asks for two outputs a step, a student for one:
5 steps against 50 are 1 / 20 of the evaluations, where the paper's claim of 8.5 times compares 5 with 50 of as many. Prints one JSON line
a student with the median ratio over the turns; exits 1 when one is less than 8.5 times faster (``--faster``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
from clock import timed

from vidistill import shipped, zoo
from vidistill.sample import Denoiser, generate

PROMPT = "a red star orbiting over a navy background"


def maker(model: Denoiser, steps: int | None) -> Callable[[], object]:
    return lambda: generate(model, [PROMPT], seeds=[0], steps=steps)


def main() -> int:
    few = [name for name in shipped.NAMES if getattr(zoo.load(name), "times", ())]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", nargs="+", default=few, help="names of the zoo, or folders")
    parser.add_argument("--teacher", default="lab-dit")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--faster", type=float, default=8.5)
    args = parser.parse_args()
    if not args.students:
        parser.error("there is no few-step model in the zoo: name folders with --students")
    on, failed = f"{args.device}, {torch.get_num_threads()} threads", False
    teacher = zoo.load(args.teacher, device=args.device)
    long = maker(teacher, args.steps)
    latents = long()
    for name in args.students:
        student = zoo.load(name, device=args.device)
        short, shown = maker(student, None), lambda: teacher.codec.decode(latents, teacher.frames)
        short(), shown()
        turns = [(timed(long), timed(short), timed(shown)) for _ in range(args.repeats)]
        row = {
            "student": name,
            "steps": student.steps,
            "teacher_steps": args.steps,
            "guidance": teacher.guidance,
            "evaluations_saved": round(args.steps * (1 + (teacher.guidance > 1)) / student.steps, 2),
            "times_faster": round(statistics.median(slow / fast for slow, fast, _ in turns), 2),
            "times_faster_with_decoding": round(statistics.median((slow + end) / (fast + end) for slow, fast, end in turns), 2),
            "seconds": round(statistics.median(fast for _, fast, _ in turns), 4),
            "on": on,
        }
        print(json.dumps(row), flush=True)
        failed |= row["times_faster"] < args.faster
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
