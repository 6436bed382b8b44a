"""FreeInit (arXiv 2312.07537), VideoGuide's peer: the whole run is repeated, each time from noise that keeps the clip's low frequencies.

    z = a_T x_0 + s_T n_init;   x_T = IFFT(M FFT(z) + (1 - M) FFT(n)),  n ~ N(0, 1) fresh

n_init is the noise that the first run began with, T the last training timestep, M the filter of :mod:`vidistill.guide.lowpass`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.guide import low_pass_mask, mix
from vidistill.rng import normal
from vidistill.sample.denoiser import Denoiser
from vidistill.sample.sampler import Step, sample


def freeinit(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    iterations: int = 5,
    space: float = 0.25,
    time: float = 0.25,
    order: int = 4,
    **options: Any,
) -> Iterator[Step]:
    """Make clips with FreeInit, one record a step: those of all runs in a row, ``index`` and ``evaluations`` counted through.

    Fresh noise is the stream ``"free-init/<iteration>"`` of a clip's seed, from iteration 1 on.

    Args:
        model: one whose schedule leaves some of the clip at its last timestep; no flow.
        prompts, seeds: one a clip.
        iterations: runs, >= 1; 1 is the plain sampler. VideoGuide compares with 5.
        space, time, order: of Butterworth's filter, see :func:`vidistill.guide.low_pass_mask`.
        options: of :func:`vidistill.sample.sample`, but for ``start`` and ``latents``.

    Raises:
        InputError: a number is out of range, the model is a flow, or as the sampler.
    """
    if iterations < 1:
        raise InputError(f"FreeInit needs iterations >= 1, got {iterations}; 1 is the plain sampler")
    if model.family == "flow":
        raise InputError(f"FreeInit cannot begin again with {model.id}: a flow begins at pure noise, in which nothing of a clip is left")
    mask = low_pass_mask("butterworth", model.shape[1:], space, time, order)
    first = sample(model, prompts, seeds=seeds, **options)
    return _run(model, prompts, seeds, iterations, mask, first, options)


def _run(
    model: Denoiser,
    prompts: Sequence[str],
    seeds: Sequence[int],
    iterations: int,
    mask: Tensor,
    run: Iterator[Step],
    options: dict[str, Any],
) -> Iterator[Step]:
    began = normal(seeds, "init", model.shape).to(model.device)
    end = model.at(torch.tensor(model.scheduler.config.num_train_timesteps - 1))
    evaluations, seconds = 0, 0.0
    for iteration in range(iterations):
        for step in run:
            yield replace(
                step,
                index=iteration * step.steps + step.index,
                steps=iterations * step.steps,
                evaluations=evaluations + step.evaluations,
                seconds=seconds + step.seconds,
            )
        evaluations, seconds = evaluations + step.evaluations, seconds + step.seconds
        if iteration + 1 < iterations:
            fresh = normal(seeds, f"free-init/{iteration + 1}", model.shape).to(began)
            noise = mix(end.alpha * step.latents + end.sigma * began, fresh, mask)
            run = sample(model, prompts, seeds=seeds, latents=noise, **options)
