"""Clips per second of the fast protocol beside the loop that the official code runs, for one ConvNet3D on the same clips.

The plain loop: float32 clips held contiguously, one clip at a time stacked into a batch, ReLU before the pool, SGD, and after each step the
logits copied to numpy for a per-sample top-1/top-5 count. Both train the same network on the same number of clips.

    python tests/bench/bench_student.py [--width 32] [--frames 8] [--size 64] [--steps 20] [--batch 32] [--device cpu] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F

from vidistill.student import build, train_student
from vidistill.student.training import MEAN, STD

CLASSES = 12


def plain(video: torch.Tensor, labels: torch.Tensor, width: int, steps: int, batch: int, device: str) -> None:
    """The official loop (our words): see the head of this file."""
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (MEAN, STD))
    clips = ((video.float() / 255 - mean) / std).to(device)
    net = build("conv3d", CLASSES, width, video.shape[2], video.shape[-1]).to(device).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
    for _ in range(steps):
        index = torch.randint(len(clips), (batch,)).tolist()
        x, y = torch.stack([clips[i] for i in index]), torch.stack([labels[i] for i in index]).to(device)
        x = (x - x.mean()) / x.std()
        for conv, pool in zip(net.convs, net.pools, strict=True):
            x = F.max_pool3d(F.relu(conv(x.contiguous())), pool)
        logits = net.classifier(net.dropout(F.avg_pool3d(x, net.average, stride=1))).amax(dim=(2, 3, 4))
        loss = F.cross_entropy(logits, y)
        scores, truth = logits.detach().cpu().numpy(), y.cpu().numpy()
        for row, label in zip(scores, truth, strict=True):
            best = np.argsort(row)[::-1][:5]
            _ = best[0] == label, label in best
        _ = loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def seconds(call, device: str) -> float:
    """Return the wall time of ``call()``, the device's work included."""
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("width", 32),
        ("frames", 8),
        ("size", 64),
        ("steps", 20),
        ("batch", 32),
        ("clips", 128),
        ("threads", 0),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="also write the result here")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (o.clips, 3, o.frames, o.size, o.size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (o.clips,), generator=generator)

    def fast(steps: int) -> None:
        train_student(video, labels, classes=CLASSES, width=o.width, steps=steps, batch=o.batch, device=o.device)

    def slow(steps: int) -> None:
        plain(video, labels, o.width, steps, o.batch, o.device)

    best = {"fast": float("inf"), "plain": float("inf")}
    for steps in (2, *[o.steps] * o.repeats):  # two steps to warm up; then in turns, so that a busy machine troubles both
        for name, call in (("fast", fast), ("plain", slow)):
            spent = seconds(lambda call=call, steps=steps: call(steps), o.device)
            best[name] = min(best[name], spent / steps) if steps == o.steps else best[name]
    rates = {name: o.batch / spent for name, spent in best.items()}
    result = {
        "what": "training, clips per second",
        "clip": [o.frames, o.size, o.size],
        "width": o.width,
        "batch": o.batch,
        "device": torch.cuda.get_device_name() if o.device.startswith("cuda") else f"cpu, {torch.get_num_threads()} threads",
        **{name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["fast"] / rates["plain"], 2),
    }
    print(json.dumps(result, indent=2))
    if o.json:
        with open(o.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
