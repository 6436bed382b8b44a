"""The sampler: a generator of step records, from noise to a clip.

    x_N = sigma_N z;   u, c = network(x_t);   out, back = guidance(u, c);   x0 = clean(x_t, out)
    x0 <- x0 + change_k(x0),  k = 1, 2, ...;   x_{t-1} = advance(x_t, x0, out, back) [+ eta's noise];   x_{t-1} <- next_k(x_{t-1})

``u`` and ``c`` are the network's outputs for the negative prompt and for the prompt; the rest is said by ``guidance`` and ``operators``
(see :mod:`vidistill.guide`), in their order. An operator changes the output by an increment, so that one without effect leaves every bit as
it was; the noise that is put back changes with it, but for CFG++'s and for an operator that keeps it. Steps are DDIM's (Song et al. 2021),
Euler's on a flow, or, with ``renoise``, a few-step model's: all noise is put back anew, x_{t-1} = alpha' x0 + sigma' z.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.guide import Cfg, Moment, Operator, Switch, Way, force
from vidistill.rng import normal
from vidistill.sample.denoiser import Denoiser
from vidistill.schedule import First, Time
from vidistill.types import Progress, silent


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        index, steps: this step, from 0, and how many there are.
        t: the time that the network was told.
        alpha, sigma: of the latents before the step.
        x0: the clean latents predicted, after the operators, ``[B, C, T, H, W]``.
        latents: the latents after the step; those of the last step are the clip.
        forces: operator -> root mean square of its change in each frame, ``[B, T]``; one that did nothing is missing.
        evaluations: of networks, the model's and those of operators, per clip, so far; outputs for a prompt and for none are two.
        seconds: since the first step began, without the time that the caller took between steps.
    """

    index: int
    steps: int
    t: float
    alpha: float
    sigma: float
    x0: Tensor
    latents: Tensor
    forces: dict[str, Tensor]
    evaluations: int
    seconds: float


def sample(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | Way | Switch | None = None,
    negative: str = "",
    operators: Sequence[Operator] = (),
    eta: float = 0.0,
    renoise: bool | None = None,
    start: int = 0,
    latents: Tensor | None = None,
) -> Iterator[Step]:
    """Make clips, one record a step. Closing the generator cancels; a record's latents are never written to again.

    Args:
        model: see :func:`vidistill.sample.load_denoiser`.
        prompts: one a clip.
        seeds: one a clip; noise is the stream ``"init"`` of the seed, the same for every model with latents of the same shape.
        steps: 1 or more; default the model's, which is the only one that a few-step student has.
        guidance: g >= 1 on the standard scale, or a way to combine outputs; default the model's g.
        negative: what to steer away from.
        operators: applied in their order.
        eta: DDIM's, [0, 1]; noise is the stream ``("step", index)`` of the seed. A flow has none.
        renoise: put all noise back anew after each step; default as the model was made for, which is not, but for some few-step students.
        start: step to begin with, from 0; ``latents`` are then those before it.
        latents: what to begin with instead of noise, ``[B, C, T, H, W]``.

    Raises:
        InputError: prompts and seeds differ in number, a number is out of range, an operator or the guidance works on more first steps than
            there are, or what the model or an operator gives is not finite.
    """
    steps, guidance = model.steps if steps is None else steps, combiner(model, guidance)
    renoise = model.renoise if renoise is None else renoise
    if not prompts or len(prompts) != len(seeds):
        raise InputError(f"one prompt and one seed a clip are needed: {len(prompts)} prompts, {len(seeds)} seeds")
    if steps < 1:
        raise InputError(f"cannot sample with steps={steps}: steps must be 1 or more")
    model.check_steps(steps)
    if not 0 <= start < steps or not 0 <= eta <= 1:
        raise InputError(f"cannot sample {steps} steps with start={start} eta={eta:g}: needs 0 <= start < steps and eta in [0, 1]")
    if eta and (renoise or model.family == "flow"):
        why = "renoise puts all noise back anyway" if renoise else f"{model.id} samples a flow, whose steps add none"
        raise InputError(f"eta={eta:g} is the noise of DDIM's steps, and {why}: use eta=0")
    for interval in (*(one.interval for one in operators), *([guidance.interval] if isinstance(guidance, Switch) else [])):
        if isinstance(interval, First):
            interval.check(steps)
    shape = (len(prompts), *model.shape)
    if latents is not None and latents.shape != shape:
        raise InputError(f"the latents to begin with are {tuple(latents.shape)}, {model.id} makes {shape}")
    if start and latents is None:
        raise InputError(f"to begin at step {start} the latents before it are needed")
    return _run(model, prompts, tuple(seeds), steps, guidance, negative, tuple(operators), eta, renoise, start, latents)


def combiner(model: Denoiser, guidance: float | Way | Switch | None) -> Way | Switch:
    """Return how outputs are combined: a number is ordinary guidance, None the model's own."""
    if isinstance(guidance, Way | Switch):
        return guidance
    return Cfg(model.guidance if guidance is None else guidance)


def combined(model: Denoiser, way: Way, x: Tensor, u: Tensor, c: Tensor, now: Time) -> tuple[Tensor, Tensor]:
    """Return the output that is believed and the one that is renoised with; a way of clean videos sees those that ``u`` and ``c`` mean."""
    if not way.of_clean:
        return way.combine(u, c)
    x0 = model.clean(x, c, now)
    out = model.shifted(c, way.combine(model.clean(x, u, now), x0)[0] - x0, now)
    return out, out


def _run(
    model: Denoiser,
    prompts: Sequence[str],
    seeds: tuple[int, ...],
    steps: int,
    guidance: Way | Switch,
    negative: str,
    operators: tuple[Operator, ...],
    eta: float,
    renoise: bool,
    start: int,
    latents: Tensor | None,
) -> Iterator[Step]:
    spent, began = 0.0, time.perf_counter()
    grid = model.grid(steps)
    with torch.inference_mode():
        text = model.encode(prompts)
        against = model.encode([negative] * len(prompts)) if guidance.needs_both else None
        x = (normal(seeds, "init", model.shape) if latents is None else latents).to(model.device)
    evaluations = 0
    for index, (now, after) in list(enumerate(grid))[start:]:
        with torch.inference_mode():
            at = Moment(index, steps, now, after, eta, x, seeds)
            way = guidance.at(at)
            u, c = model.predict(x, now, text, against if way.needs_both else None)
            evaluations += 2 if way.needs_both else 1
            out, back = (c, c) if u is None else combined(model, way, x, u, c, now)
            moves = back is out  # the noise that is put back moves with the clean video
            x0 = model.clean(x, out, now)
            changes: list[tuple[str, Tensor]] = []
            for operator in operators:
                if (change := operator.on_x0(x0, at)) is not None:
                    shifted = model.shifted(out, change, now)
                    if moves and not operator.keeps_noise:
                        back = shifted if back is out else model.shifted(back, change, now)
                    x0, out = x0 + change, shifted
                    evaluations += operator.evaluations
                    changes.append((operator.name, change))
            noisy = eta or (renoise and index < steps - 1)
            z = normal(seeds, f"step/{index}", model.shape).to(x) if noisy and float(after.sigma) > 0 else None
            if renoise and z is not None:
                following = after.alpha * x0 + after.sigma * z
            else:
                following = model.advance(x, x0, (out, back), now, after, eta, z)
            for operator in operators:
                if (replaced := operator.on_next(following, at)) is not None:
                    changes.append((operator.name, replaced - following))
                    following = replaced
            finite = bool(torch.isfinite(following).all())
        if not finite:
            wrong = next((f"operator {name}" for name, change in changes if not torch.isfinite(change).all()), model.id)
            wrong = model.id if not torch.isfinite(c).all() else wrong
            raise InputError(
                f"{wrong} gave a value that is not finite at step {index + 1} of {steps} (t = {float(now.t):g}); try dtype fp32"
                + ("" if wrong == model.id else ", or less of it")
            )
        x = following
        spent += time.perf_counter() - began
        forces = {name: force(change) for name, change in changes}
        yield Step(index, steps, float(now.t), float(now.alpha), float(now.sigma), x0, x, forces, evaluations, spent)
        began = time.perf_counter()


def generate(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | Way | Switch | None = None,
    negative: str = "",
    batch: int = 8,
    progress: Progress = silent,
) -> Tensor:
    """Make many clips in batches, without operators; see :func:`sample`.

    Args:
        batch: clips at once.
        progress: called after each step of each batch.

    Returns:
        latents, float32 ``[B, C, T, H, W]`` on the CPU.

    Raises:
        InputError: as :func:`sample`, or a batch does not fit in a GPU's memory.
    """
    whole, total = [], -(-len(prompts) // batch)
    for part in range(total):
        rows = slice(part * batch, (part + 1) * batch)
        with fits(model, len(prompts[rows])):
            for step in sample(model, prompts[rows], seeds=seeds[rows], steps=steps, guidance=guidance, negative=negative):
                progress(f"sample {model.id}", part * step.steps + step.index + 1, total * step.steps)
                last = step.latents
        whole.append(last.float().cpu())
    return torch.cat(whole)


@contextmanager
def fits(model: Denoiser, batch: int) -> Iterator[None]:
    """Turn a GPU that is out of memory into one line that says what may fit.

    Raises:
        InputError: it is.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        free, total = (part / 2**30 for part in torch.cuda.mem_get_info(model.device))
        less = f"batch={batch // 2}" if batch > 1 else "dtype bf16, fewer frames, a smaller size, or memory slicing, tiling, offload"
        shape = f"{batch} x {model.frames} frames of {model.size} px"
        raise InputError(
            f"{model.id} needs more GPU memory for {shape} than there is ({free:.1f} of {total:.1f} GiB free): try {less}"
        ) from None
