"""The sampler: a generator of step records, from noise to a clip.

    x_N = sigma_N z;   out = u + g (c - u);   x0 = clean(x_t, out);   x_{t-1} = advance(x_t, x0, out)

``u`` and ``c`` are the network's outputs for the negative prompt and for the prompt, g the guidance on the standard scale (1 is no guidance
and costs one evaluation a step instead of two). The steps are deterministic: DDIM at eta 0 (Song et al. 2021), Euler on a flow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.rng import normal
from vidistill.sample.denoiser import Denoiser
from vidistill.types import Progress, silent


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        index, steps: this step, from 0, and how many there are.
        t: the time that the network was told.
        alpha, sigma: of the latents before the step.
        x0: the clean latents predicted, ``[B, C, T, H, W]``.
        latents: the latents after the step; those of the last step are the clip.
        evaluations: of the network, per clip, so far.
        seconds: since the first step began, without the time that the caller took between steps.
    """

    index: int
    steps: int
    t: float
    alpha: float
    sigma: float
    x0: Tensor
    latents: Tensor
    evaluations: int
    seconds: float


def sample(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | None = None,
    negative: str = "",
) -> Iterator[Step]:
    """Make clips, one record a step. Closing the generator cancels; a record's latents are never written to again.

    Args:
        model: see :func:`vidistill.sample.load_denoiser`.
        prompts: one a clip.
        seeds: one a clip; noise is the stream ``"init"`` of the seed, the same for every model with latents of the same shape.
        steps: 1 or more; default the model's.
        guidance: g >= 1; default the model's.
        negative: what to steer away from.

    Raises:
        InputError: prompts and seeds differ in number, ``steps`` < 1, ``guidance`` < 1, or the model's output is not finite.
    """
    steps, guidance = model.steps if steps is None else steps, model.guidance if guidance is None else guidance
    if not prompts or len(prompts) != len(seeds):
        raise InputError(f"one prompt and one seed a clip are needed: {len(prompts)} prompts, {len(seeds)} seeds")
    if steps < 1 or guidance < 1:
        raise InputError(f"cannot sample with steps={steps} guidance={guidance}: steps must be 1 or more, guidance 1 (off) or more")
    return _run(model, prompts, seeds, steps, guidance, negative)


def _run(model: Denoiser, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float, negative: str) -> Iterator[Step]:
    spent, began = 0.0, time.perf_counter()
    grid = model.grid(steps)
    with torch.inference_mode():
        text = model.encode(prompts)
        against = model.encode([negative] * len(prompts)) if guidance > 1 else None
        x = normal(seeds, "init", model.shape).to(model.device)
    each = 1 if against is None else 2
    for index, (now, after) in enumerate(grid):
        with torch.inference_mode():
            output = model.predict(x, now, text, against, guidance)
            x0 = model.clean(x, output, now)
            x = model.advance(x, x0, output, now, after)
            finite = bool(torch.isfinite(x).all())
        if not finite:
            raise InputError(
                f"{model.id} gave a value that is not finite at step {index + 1} of {steps} (t = {float(now.t):g}); try dtype fp32"
            )
        spent += time.perf_counter() - began
        yield Step(index, steps, float(now.t), float(now.alpha), float(now.sigma), x0, x, each * (index + 1), spent)
        began = time.perf_counter()


def generate(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | None = None,
    negative: str = "",
    batch: int = 8,
    progress: Progress = silent,
) -> Tensor:
    """Make many clips in batches; see :func:`sample`.

    Args:
        batch: clips at once.
        progress: called after each step of each batch.

    Returns:
        latents, float32 ``[B, C, T, H, W]`` on the CPU.
    """
    whole, total = [], -(-len(prompts) // batch)
    for part in range(total):
        rows = slice(part * batch, (part + 1) * batch)
        for step in sample(model, prompts[rows], seeds=seeds[rows], steps=steps, guidance=guidance, negative=negative):
            progress(f"sample {model.id}", part * step.steps + step.index + 1, total * step.steps)
            last = step.latents
        whole.append(last.float().cpu())
    return torch.cat(whole)
