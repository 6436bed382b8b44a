"""Goldens of samplers and operators: every way to step, to combine outputs and to guide, on models known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from golden_worlds import PROMPTS, SEEDS, Clips, Straight, centres
from torch import Tensor

from vidistill.guide import Apg, Cfg, CfgPlus, CfgZero, LowPass, Operator, Pull, Switch, Tcfg
from vidistill.lab.toy import gain
from vidistill.rng import normal
from vidistill.sample import Denoiser, Step, Teacher, freeinit, sample
from vidistill.schedule import DECAYS, WEIGHTS, First, Interval

Found = dict[str, Tensor]
Operators = Callable[[Sequence[int]], list[Operator]]
"""Rows of the clips -> operators for these clips together."""

TIMES = (1.0, 0.9, 0.7, 0.4)
STRENGTH = {"score": 0.3, "mgd3": 0.1, "blend": 0.2, "coda": 0.2}


def alone(rows: Sequence[int]) -> list[Operator]:
    """Return no operator."""
    return []


def steps_of(model: Denoiser, operators: Operators, options: dict[str, Any]) -> list[Step]:
    """Return the records of a run of three clips together."""
    return list(sample(model, PROMPTS, seeds=SEEDS, operators=operators(range(len(SEEDS))), **options))


def sampled(model: Denoiser, operators: Operators = alone, **options: Any) -> Found:
    """Return the clips of a run, the clean videos half-way, and each operator's forces at its steps."""
    records = steps_of(model, operators, options)
    found = {"latents": records[-1].latents, "half-way": records[len(records) // 2].x0}
    names = dict.fromkeys(name for record in records for name in record.forces)
    return found | {f"force of {name}": torch.stack([r.forces[name] for r in records if name in r.forces]) for name in names}


def pulled(device: torch.device, weight: str = "score", decay: str = "linear", interval: Interval | None = None, **options: Any) -> Found:
    """Return a run of six steps that is pulled to three centres."""
    return sampled(Clips(device), pull(device, weight, decay, interval), steps=6, **options)


def pull(device: torch.device, weight: str = "score", decay: str = "linear", interval: Interval | None = None) -> Operators:
    """Return a pull of the strength that suits its weight."""
    m = centres(device)
    return lambda rows: [Pull(m[list(rows)], STRENGTH[weight], weight, decay, interval or Interval())]


def taught(base: Denoiser, model: Denoiser, **options: Any) -> Operators:
    """Return a teacher on the first three steps."""
    settings = {"tau": 3, "points": 8, "interval": First(3)} | options
    return lambda rows: [Teacher(model, base, [PROMPTS[row] for row in rows], **settings)]


def teacher_case(device: torch.device, model: Denoiser, **options: Any) -> Found:
    """Return a run of six steps with a teacher."""
    base = Clips(device)
    return sampled(base, taught(base, model, **options), steps=6)


def low_passed(device: torch.device) -> Found:
    """Return the clips that each filter leaves."""
    filters = ("butterworth", "gaussian", "ideal")
    run = lambda name: sampled(Clips(device), lambda rows: [LowPass(0.5, 0.5, interval=First(3), filter=name)], steps=6)  # noqa: E731
    return {name: run(name)["latents"] for name in filters}


def videoguide(device: torch.device) -> Found:
    """Return VideoGuide whole: a teacher of other weights, the low-pass, CFG++ on the guided steps and CFG on the rest."""
    base, first = Clips(device), First(3)
    teacher = taught(base, Clips(device, (3, 1, 1, 1, 1, 3)), beta=0.5)
    guidance = Switch(CfgPlus(0.8), Cfg(3.0), first)
    return sampled(base, lambda rows: [*teacher(rows), LowPass(0.5, 0.5, interval=first)], steps=6, guidance=guidance)


def composed(device: torch.device) -> Found:
    """Return a pull and a teacher in either order."""
    base = Clips(device)
    towards, teacher = pull(device), taught(base, Straight(device))
    found = {}
    for name, parts in (("pull first", (towards, teacher)), ("teacher first", (teacher, towards))):
        run = sampled(base, lambda rows, parts=parts: [one for part in parts for one in part(rows)], steps=6)
        found |= {f"{name}, {part}": value for part, value in run.items()}
    return found


def windowed(device: torch.device) -> Found:
    """Return pulls on the first half of the path and on the second."""
    windows = {"early": Interval(1000, 500), "late": Interval(500, 0)}
    return {name: pulled(device, interval=window)["latents"] for name, window in windows.items()}


def repeated(device: torch.device) -> Found:
    """Return FreeInit's clips after each of its runs."""
    records = list(freeinit(Clips(device), PROMPTS, seeds=SEEDS, iterations=2, space=0.5, time=0.5, steps=4))
    return {"first": records[3].latents, "second": records[7].latents}


def denoised(device: torch.device) -> Found:
    """Return what the two models predict of the same noisy clips, half-way."""
    x = normal(SEEDS, "noisy", (2, 4, 4, 4)).to(device)
    found = {}
    for name, model in (("noise", Clips(device)), ("velocity", Straight(device))):
        now, _ = model.grid(4)[2]
        unasked, asked = model.predict(x, now, model.encode(PROMPTS), model.encode([""] * len(x)))
        assert unasked is not None
        found |= {f"{name} for none": unasked, f"{name} for the prompt": asked}
    return found


CASES: dict[str, Callable[[torch.device], Found]] = {
    "denoisers": denoised,
    "ddim": lambda device: sampled(Clips(device), steps=8),
    "ddim-eta": lambda device: sampled(Clips(device), steps=8, eta=1.0),
    "ddim-one-step": lambda device: sampled(Clips(device), steps=1),
    "flow-euler": lambda device: sampled(Straight(device), steps=8),
    "few-step-euler": lambda device: sampled(Straight(device, TIMES)),
    "few-step-renoised": lambda device: sampled(Straight(device, TIMES, renoise=True)),
    "cfg": lambda device: sampled(Clips(device), steps=6, guidance=3.0),
    "cfg-negative": lambda device: sampled(Clips(device), steps=6, guidance=3.0, negative="spin"),
    "cfg++": lambda device: sampled(Clips(device), steps=6, guidance=CfgPlus(0.8)),
    "cfg++-flow": lambda device: sampled(Straight(device), steps=6, guidance=CfgPlus(0.8)),
    "cfg-switch": lambda device: sampled(Clips(device), steps=6, guidance=Switch(CfgPlus(0.8), Cfg(3.0), First(2))),
    "cfg-zero": lambda device: sampled(Straight(device), steps=6, guidance=CfgZero(3.0)),
    "apg": lambda device: sampled(Clips(device), steps=6, guidance=Apg(3.0, radius=2.0)),
    "tcfg": lambda device: sampled(Clips(device), steps=6, guidance=Tcfg(3.0)),
    **{f"pull-{weight}": lambda device, weight=weight: pulled(device, weight) for weight in WEIGHTS},
    "pull-eta": lambda device: pulled(device, "mgd3", eta=1.0),
    "pull-decays": lambda device: {decay: pulled(device, decay=decay)["latents"] for decay in DECAYS},
    "pull-windows": windowed,
    "pull-cfg": lambda device: pulled(device, guidance=3.0),
    "pull-cfg++": lambda device: pulled(device, guidance=CfgPlus(0.8)),
    "pull-flow": lambda device: sampled(Straight(device), pull(device), steps=6),
    "pull-few-step": lambda device: sampled(Straight(device, TIMES, renoise=True), pull(device)),
    "pull-gain": lambda device: {weight: torch.tensor(gain(0.1, weight, steps=10)) for weight in WEIGHTS},
    "pull-teacher": composed,
    "teacher": lambda device: teacher_case(device, Clips(device, (3, 1, 1, 1, 1, 3)), t_map="same_index"),
    "teacher-flow": lambda device: teacher_case(device, Straight(device), beta=0.2),
    "teacher-few-step": lambda device: teacher_case(device, Straight(device, TIMES), points=5, tau=2, guidance=Cfg(1.0)),
    "low-pass": low_passed,
    "videoguide": videoguide,
    "free-init": repeated,
}
