"""What a generated clip costs: seconds of the sampler by clips at once and by clips of a class, measured on fresh clips in one process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidistill.sample import Job, collect, load_denoiser, sample

TURNS = 3
BATCH = 4
"""Clips at once while the number of clips of a class grows."""


def sampling_cost(
    name: str, *, batches: Sequence[int], counts: Sequence[int] = (1, 2, 4), steps: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure the cost model of GVD: time grows with the batch, and a clip costs the same whatever the instances per class.

    Args:
        name: of the model.
        batches: clips at once.
        counts: multiples of ``BATCH`` clips that one class is given.
        steps: of the sampler; None takes the model's.
        device: where it works.

    Returns:
        ``by_batch`` and ``by_count``, each ``{clips: seconds}``; ``linear``, the share of the time's variance that a straight line in the
        batch explains; ``spread``, the largest and the least seconds a clip over the counts; ``rows`` for a table and what it ``says``.
    """
    model = load_denoiser(name, device=device, steps=steps)
    run = lambda size, first: list(sample(model, [""] * size, seeds=range(first, first + size)))  # noqa: E731
    run(min(batches), 0)  # the first call pays for what later ones find
    by_batch = {size: statistics.median(_timed(run, size, 100 * turn) for turn in range(TURNS)) for size in batches}
    by_count = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            jobs = [Job("", seed) for seed in range(BATCH * count)]
            by_count[BATCH * count] = _timed(collect, model, jobs, Path(folder), batch=BATCH)
    a_clip = [seconds / clips for clips, seconds in by_count.items()]
    linear = statistics.correlation([float(size) for size in by_batch], list(by_batch.values())) ** 2 if len(by_batch) > 2 else None
    rows = []
    for i in range(max(len(by_batch), len(by_count))):
        left = list(by_batch.items())[i : i + 1]
        right = list(by_count.items())[i : i + 1]
        cells = [f"{left[0][0]}", f"{left[0][1]:.2f}", f"{left[0][1] / left[0][0]:.3f}"] if left else ["", "", ""]
        rows.append(cells + ([f"{right[0][0]}", f"{right[0][1] / right[0][0]:.3f}"] if right else ["", ""]))
    spread = max(a_clip) / min(a_clip)
    line = f"A straight line in the batch explains {linear:.1%} of the time; " if linear is not None else ""
    says = line + f"from {BATCH * counts[0]} to {BATCH * counts[-1]} clips of a class a clip's cost changes by a factor of {spread:.2f}."
    return {"by_batch": by_batch, "by_count": by_count, "linear": linear, "spread": spread, "rows": rows, "says": says}


def _timed(call: Any, *arguments: Any, **options: Any) -> float:
    began = time.perf_counter()
    call(*arguments, **options)
    return time.perf_counter() - began
