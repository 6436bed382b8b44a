r"""Data-Forcing Distillation (arXiv 2606.18478), whole and from top to bottom, where every mode is known: points in the plane.

    x_t = (1 - t) x_0 + t eps,   g = x0_hat(student, x_in)           x_in: a noised real sample at one of the student's times
    x_f = forward(g, eps, t),   x_r = forward(source, eps, t)        source: the real sample in a share p of the steps, else g (Eq. 10)
    f = critic(x_f),   r = teacher(x_r, guidance)
    grad = (f - r) / (mean|g - r| + 1e-6),   loss = 0.5 || g - sg(g - grad) ||^2        DFD is DMD with another source (Alg. 1)

All branches go on from one DMD checkpoint of the same teacher with the same updates, batches and noise. Beside them: more DMD, the
regression that the line also adds (SFT), real samples that are not paired, Eq. 8 to the letter, no checkpoint, guidance off, and what
stored paths reach without any of this. Pairwise diversity, the paper's measure, stands beside the modes that are held.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vidistill.distill import Recipe, changed, load_recipe
from vidistill.distill.losses import FORMS
from vidistill.distill.trajectory import time_table
from vidistill.knobs import Knob, Knobs
from vidistill.measure import pick_arms, summarise
from vidistill.papers.motion import KNOBS as MOTION_KNOBS
from vidistill.papers.motion import Film, motion_world
from vidistill.papers.plane import KNOBS as PLANE_KNOBS
from vidistill.papers.plane import NUMBERS, Arm
from vidistill.papers.points import described, guidance_of, judged_arms
from vidistill.types import Progress, Report, Score, silent

ARMS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: (role, how it is trained, what that changes)
    "dfd": ("method", "branch", {}),
    "more-dmd": ("control", "branch", {"method": "dmd"}),
    "dmd-sft": ("control", "branch", {"method": "sft"}),
    "dfd-unpaired": ("control", "branch", {"paired": False}),
    "dfd-score": ("control", "branch", {"form": "score"}),
    "dfd-cfg1": ("control", "branch", {"real_scale": 1.0}),
    "dmd-cfg1": ("control", "branch", {"method": "dmd", "scale": 1.0}),
    "two-steps": ("control", "branch", {"times": (0.999, 0.5, 0.0)}),  # its checkpoint has two as well
    "dfd-teacher": ("control", "whole", {}),  # from the teacher, as many updates as checkpoint and branch together
    "dmd": ("control", "checkpoint", {}),
    "dmd-backsim": ("control", "checkpoint", {"student_input": "simulate"}),
    "dmd2": ("control", "checkpoint", {}),  # and the knob gan
    "dp-dmd": ("control", "checkpoint", {"method": "dpdmd", "renoise": "ode"}),
    "kd": ("control", "plane-kd", {}),
    "trajectory": ("control", "plane-trajectory", {}),
    "teacher-few": ("control", "sde", {}),  # untrained: the teacher in the student's steps, re-noised, and by Euler
    "teacher-euler": ("control", "ode", {}),
    "teacher": ("reference", "50", {}),
}
GUIDED = ("dfd-cfg1", "dmd-cfg1")
FILMS = {  # the same on Motion World, by models: those of the zoo, and what others are told to be
    "dfd": Film("method", "lab-dit-dfd4"),
    "more-dmd": Film("control", "lab-dit-dmd4"),
    "dmd-sft": Film("control", "lab-dit-sft4"),
    "dfd-cfg1": Film("control", "lab-dit-dfd4-cfg1"),
    "kd": Film("control", "lab-dit-kd4"),
    "trajectory": Film("control", "lab-dit-trajectory4"),
    "teacher-few": Film("control", steps=4, renoise=True),
    "teacher-euler": Film("control", steps=4),
    "teacher": Film("reference", steps=50),
}

KNOBS = Knobs(
    "dfd",
    *PLANE_KNOBS,
    *MOTION_KNOBS,
    Knob("guidance", 2.0, "of the teacher, in worlds with classes; 1 is off", low=1, high=10, source="paper: 5 and 3", group="teacher"),
    Knob("updates", 450, "student updates of the DMD checkpoint", low=1, high=10**6, source="paper: 25 k iterations", group="training"),
    Knob("branch", 150, "student updates of a branch", low=1, high=10**6, source="paper: 100 iterations are 20 of these", group="training"),
    Knob("student_freq", 5, "critic updates to each", low=1, high=100, source="paper, Table 4", group="training"),
    Knob("p", 0.5, "share of steps that real data force", low=0, high=1, step=0.05, symbol="w", source="paper: 1/2; class default .25"),
    Knob("paired", True, "the real sample is the one that was noised", source="code: paired; Eq. 8: independent"),
    Knob("form", "x0", "x0 as in the code, or score as in Eq. 8", choices=FORMS, source="code: x0"),
    Knob("cfg_real", 0.0, "guidance where the teacher sees real samples, 0 is the same", low=0, high=10, source="code: the same"),
    Knob("dfd_gan", 0.0, "weight of a discriminator in DFD", low=0, high=10, source="paper: none; README's command: .03"),
    Knob("gan", 0.3, "and in DMD2", low=0, high=10, source="ours, untuned", group="controls"),
    Knob("anchor", 0.05, "weight of DP-DMD's anchor", low=0, high=10, symbol="lambda", source="DP-DMD: .05", group="controls"),
    Knob("anchor_steps", 5, "teacher steps to it, of 30", low=1, high=30, symbol="K", source="DP-DMD: 5; its script: 10", group="controls"),
    Knob("arms", "all", "all, or a comma list of: " + " ".join(ARMS), source="controls come with the method", group="controls"),
)
ABOUT = (
    "Modes that hold at least a fifth of their share. Read diversity beside it: points that lie too far out have more, with fewer modes."
)
SCORE = Score("Mode coverage", "modes held %", "more-dmd", ABOUT)


def arm_of(name: str, k: dict[str, Any], guidance: float) -> Arm:
    """Return an arm's recipes and sampler as knob values say it; ``guidance`` is 1 in worlds without classes."""
    how, changes = ARMS[name][1:]
    every = {"scale": guidance, "student_update_freq": k["student_freq"], "anchor": k["anchor"], "anchor_steps": k["anchor_steps"]}
    every |= {name: value for name, value in changes.items() if name == "times"}
    dmd = load_recipe("plane-dmd", updates=k["updates"], **every)
    if how in ("sde", "ode", "50"):
        return Arm((), time_table(50) if how == "50" else dmd.times, "ode" if how == "50" else how)
    if how.startswith("plane-"):  # stored paths, and no critic
        last, before = load_recipe(how, updates=k["path_updates"]), list[Recipe]()
    elif how == "checkpoint":
        last, before = changed(dmd, **changes, gan=k["gan"] if name == "dmd2" else 0.0), []
    else:
        whole = {"p": k["p"], "paired": k["paired"], "form": k["form"], "real_scale": k["cfg_real"] or None, "gan": k["dfd_gan"]}
        asked = {"dmd": (), "sft": ("p", "paired")}.get(changes.get("method", "dfd"), tuple(whole))  # an arm is decided by nothing else
        force = {knob: whole[knob] for knob in asked} | changes
        length = k["branch"] + (k["updates"] if how == "whole" else 0)
        last, before = load_recipe("plane-dfd", updates=length, **(every | force)), [dmd] * (how == "branch")
    return Arm((*before, last), last.times, last.renoise)


def run(values: dict[str, Any], videos: Any, out: Path, *, device: str = "cpu", seed: int = 0, progress: Progress = silent) -> Report:
    """Train a teacher and every arm from it, once a seed, and count the modes that their points hold; or see :func:`motion_world`.

    Args:
        videos: not looked at: the worlds make their own.
        out: folder; keeps teachers, paths and students, and ``parts/`` each finished trial, so that an interrupted run resumes.
        device: of Motion World's models; the plane's networks are so small that they are fastest on the CPU.
        seed: repetition s is ``seed + s``: another teacher.
        progress: ``progress(stage, done, total)``; raise ``Cancelled`` in it to stop.

    Raises:
        InputError: a knob is out of range, a teacher does not pass the gate, ``out`` cannot be written.
    """
    k = KNOBS.resolve(values)
    chosen = pick_arms(k["arms"], ARMS, always=("dfd", "more-dmd"))
    if k["world"] == "motion-world":
        return motion_world("dfd", k, FILMS, chosen, SCORE, "coverage", out, device=device, seed=seed, progress=progress)
    guidance = guidance_of(k)
    arms = {name: arm_of(name, k, guidance) for name in chosen if guidance > 1 or name not in GUIDED}
    if int(os.environ.get("RANK", 0)):
        return Report("dfd", k, {}, [], [])
    table, notes = judged_arms(k, arms, ("dfd", "more-dmd"), out, seed, progress)
    facts = {name: {"role": ARMS[name][0], "bytes": None} for name in table}
    rows = summarise(table, "more-dmd", "coverage", also=NUMBERS, first=("clips", "updates", "evaluations"), facts=facts)
    counts = {name: sum(trial["misleads"] for trial in trials) for name, trials in table.items()}
    if far := [f"{name} in {count} of {k['seeds']} seeds" for name, count in counts.items() if count]:  # the paper's measure against truth
        notes.append(f"more pairwise diversity than the truth while modes are missing, so diversity alone misleads: {', '.join(far)}")
    if lost := [name for name in chosen if name not in arms]:
        notes.append(f"{', '.join(lost)}: left out, nothing is guided in {k['world']}")
    notes.append(f"student updates are counted: FastGen's iterations are {k['student_freq']} times as many")
    return Report("dfd", k, described(k), rows, notes, {}, SCORE)
