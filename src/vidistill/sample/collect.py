"""Many clips, each kept on disk as soon as it is made: an interrupted collection goes on where it stopped, several GPUs share the work.

A clip's file is named by everything that determines it: the model's weights, how it is sampled, prompt, seed, and what its operators are
made of. Clips of any prompts and seeds are sampled together in batches, so the time depends on how many there are, not on how they are
grouped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.files import digest, ensure_folder, load_tensors, save_tensors
from vidistill.guide import Operator
from vidistill.sample.denoiser import Denoiser
from vidistill.sample.sampler import Step, fits, sample
from vidistill.types import Progress, silent

PATIENCE = 1800.0
"""Seconds that a process waits for clips of the others while none appears."""


@dataclass(frozen=True)
class Job:
    """One clip to make.

    Attributes:
        prompt, seed: what the sampler needs.
        facts: what its operators are made of, JSON-ready; decides the file's name.
    """

    prompt: str
    seed: int
    facts: dict[str, Any] = field(default_factory=dict)


def collect(
    model: Denoiser,
    jobs: Sequence[Job],
    folder: str | Path,
    *,
    operators: Callable[[Sequence[int]], Sequence[Operator]] = lambda rows: (),
    sampler: Callable[..., Iterator[Step]] = sample,
    batch: int = 8,
    progress: Progress = silent,
    **options: Any,
) -> list[Path]:
    """Make the clips that ``folder`` does not hold yet and return the file of each job, in order.

    Of several processes (``RANK``, ``WORLD_SIZE`` as accelerate and torchrun set them) each makes its share, then waits for the rest: the
    union is what one process makes.

    Args:
        model: see :func:`vidistill.sample.load_denoiser`.
        jobs: equal ones share a file.
        folder: gets ``<digest>.safetensors`` with ``latents``, float16 ``[C, T, H, W]``, written atomically, and in its metadata what
            the clip has cost, see :func:`costs`.
        operators: rows of ``jobs`` -> operators for these clips together.
        sampler: called as :func:`vidistill.sample.sample`, whose name and options say what it does: :func:`vidistill.sample.freeinit`.
        batch: clips at once.
        progress: called after each step, in steps of all clips.
        options: of the sampler, numbers and words or records of them.

    Raises:
        InputError: as the sampler; a batch does not fit in a GPU's memory; or the other processes stopped.
    """
    folder = ensure_folder(folder)
    steps = options.get("steps") or model.steps
    rest = {"model": model.fingerprint, "steps": steps, "guidance": options.get("guidance") or model.guidance}
    rest |= {name: value for name, value in options.items() if name not in rest} | {"shape": model.shape, "dtype": str(model.dtype)}
    rest |= {} if sampler is sample else {"sampler": sampler.__name__}
    paths = [folder / f"{digest([rest, job.prompt, job.seed, job.facts], 32)}.safetensors" for job in jobs]
    first = {path: row for row, path in reversed(list(enumerate(paths)))}  # the first of equal jobs makes the file
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    missing = {row for path, row in first.items() if not path.is_file()}
    own = [row for row in sorted(first.values())[rank::world] if row in missing]
    stage, total, done = f"generate with {model.id}", len(first) * steps, (len(first) - len(missing)) * steps
    progress(stage, done, total)
    for start in range(0, len(own), batch):
        rows = own[start : start + batch]
        with fits(model, len(rows)):
            prompts, seeds = [jobs[row].prompt for row in rows], [jobs[row].seed for row in rows]
            for step in sampler(model, prompts, seeds=seeds, operators=operators(rows), **options):
                progress(stage, done + len(rows) * steps * (step.index + 1) // step.steps, total)
        done += len(rows) * steps
        for row, z in zip(rows, step.latents.to("cpu", torch.float16), strict=True):
            if not bool(z.isfinite().all()):
                raise InputError(f"{model.id}: the clip of {jobs[row].prompt!r}, seed {jobs[row].seed}, has latents beyond fp16's range")
            save_tensors(paths[row], {"latents": z}, {"seconds": f"{step.seconds / len(rows):.6f}", "evaluations": f"{step.evaluations}"})
    seen, since = -1, time.monotonic()
    while left := [path for path in first if not path.is_file()]:
        if len(left) != seen:
            seen, since = len(left), time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise InputError(
                f"{len(left)} clips of the other processes do not come: start the same command again, it makes the missing ones"
            )
        progress(stage, max(done, (len(first) - len(left)) * steps), total)
        time.sleep(0.5)
    return paths


def costs(paths: Sequence[Path]) -> dict[str, float]:
    """Return what files cost when they were made, a mean over clips: ``seconds`` of the sampler (a batch's are shared), ``evaluations``."""
    told = [load_tensors(path)[1] for path in paths]
    return {name: sum(float(each[name]) for each in told) / len(told) for name in ("seconds", "evaluations")}


def collected(paths: Sequence[Path]) -> Tensor:
    """Return the latents of files, float32 ``[B, C, T, H, W]``."""
    return torch.stack([load_tensors(path)[0]["latents"] for path in paths]).float()
