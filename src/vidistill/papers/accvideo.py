r"""AccVideo (arXiv 2503.19462), whole and from top to bottom, where the truth is known: points in the plane, and its own points on a line.

    l_{k-1} = l_k + (t_{k-1} - t_k) v(l_k, t_k)                                 the teacher's Euler path, kept at the key times t' (Eq. 5)
    L_traj = E_k || s(l_{k+1}, t'_{k+1}) - (l_{k+1} - l_k) / (t'_{k+1} - t'_k) ||^2                       no sample is noised (Eq. 6)
    L_adv  = log D(l_k, t'_k) + log(1 - D(l_gen_k, t'_k)),   D(., t'_k) = H_k(teacher's features)         a head a key time (Eq. 7-8)

The paper has no number for its losses or its heads: each is an arm here, beside KD from the same paths, DMD without any, and the teacher in
as few steps. What it says of data that do not match the teacher (Fig. 2) is measured on the line, see ``line.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vidistill.distill import load_recipe
from vidistill.distill.trajectory import time_table
from vidistill.errors import InputError
from vidistill.files import ensure_folder
from vidistill.knobs import Knob, Knobs
from vidistill.measure import interval, pick_arms, run_trials, summarise
from vidistill.papers.line import KNOBS as LINE_KNOBS
from vidistill.papers.line import decides, on_the_line
from vidistill.papers.motion import KNOBS as MOTION_KNOBS
from vidistill.papers.motion import Film, motion_world
from vidistill.papers.plane import KNOBS as PLANE_KNOBS
from vidistill.papers.plane import NUMBERS, Arm
from vidistill.papers.points import described, guidance_of, judged_arms
from vidistill.types import Progress, Report, Score, silent

ARMS = {  # name: role
    "accvideo": "method",
    "trajectory": "control",  # its loss alone
    "one-head": "control",  # a discriminator that does not know the time
    "kd": "control",  # the clean end of the same paths, from any of their points, re-noised
    "kd-ode": "control",  # the same student by Euler, which it was not trained for
    "dmd": "control",  # no paths
    "teacher-few": "control",  # untrained, the same Euler steps
    "teacher": "reference",
}
FILMS = {  # the same on Motion World, by models: those of the zoo, and what others are told to be
    "accvideo": Film("method", "lab-dit-accvideo5"),
    "trajectory": Film("control", "lab-dit-trajectory5"),
    "one-head": Film("control", "lab-dit-one-head5"),
    "kd": Film("control", "lab-dit-kd4"),
    "kd-ode": Film("control", "lab-dit-kd4", renoise=False),
    "dmd": Film("control", "lab-dit-dmd4"),
    "teacher-few": Film("control", steps=5),
    "teacher": Film("reference", steps=50),
}
KNOBS = Knobs(
    "accvideo",
    *PLANE_KNOBS,
    *MOTION_KNOBS,
    Knob("guidance", 2.0, "of the teacher, in worlds with classes; 1 is off", low=1, high=10, source="paper: 6, embedded", group="teacher"),
    Knob("adversarial", 0.1, "weight of the discriminator", low=0, high=10, symbol="lambda_adv", source="paper: .1"),
    Knob("heads_lr", 1e-3, "learning rate of its heads", low=0, high=1, open_low=True, source="ours; paper: the student's"),
    Knob("dmd_updates", 450, "student updates of DMD", low=1, high=10**6, source="ours", group="controls"),
    *LINE_KNOBS,
    Knob("arms", "all", "all, or a comma list of: " + " ".join(ARMS), source="controls come with the method", group="controls"),
)
ABOUT = "Points within 4 deviations of a mode, after training alike: the trajectory loss sees as many batches in each arm that has it."
TRUE = Score("Fidelity", "as asked %", "trajectory", "Factors of the prompt that the exact parser finds in the clip.")
SCORE = Score("Precision", "on a mode %", "trajectory", ABOUT)


def arm_of(name: str, k: dict[str, Any], guidance: float) -> Arm:
    """Return an arm's recipe and sampler as knob values say it; ``guidance`` is 1 in worlds without classes."""
    if name.startswith("teacher"):
        return Arm((), time_table(4 if name == "teacher-few" else 50), "ode")
    if name == "dmd":
        recipe = load_recipe("plane-dmd", updates=k["dmd_updates"], scale=guidance)
    elif name in ("kd", "kd-ode"):
        recipe = load_recipe("plane-kd", updates=k["path_updates"])
    elif name == "trajectory":
        recipe = load_recipe("plane-trajectory", updates=k["path_updates"])
    else:  # a pass is an update of either loss at each of the 4 key times
        weights = {"adversarial": k["adversarial"], "heads_lr": k["heads_lr"]}
        recipe = load_recipe("plane-trajectory", method="accvideo", updates=max(1, k["path_updates"] // 4), **weights)
    return Arm((recipe,), recipe.times, "ode" if name == "kd-ode" else recipe.renoise, 4 if name == "accvideo" else 1)


def run(values: dict[str, Any], videos: Any, out: Path, *, device: str = "cpu", seed: int = 0, progress: Progress = silent) -> Report:
    """Train a teacher and every arm from it, once a seed, and measure their points, then the line; or see :func:`motion_world`.

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
    try:
        moved = [float(word) for word in k["mismatches"].split(",") if word.strip()]
    except ValueError:
        raise InputError(
            f"knob mismatches={k['mismatches']!r} is not allowed: numbers with commas between them, such as 0, 1.5, 3"
        ) from None
    chosen = pick_arms(k["arms"], ARMS, always=("accvideo", "trajectory"))
    if k["world"] == "motion-world":
        return motion_world("accvideo", k, FILMS, chosen, TRUE, "fidelity", out, device=device, seed=seed, progress=progress)
    arms = {name: arm_of(name, k, guidance_of(k)) for name in chosen}
    if int(os.environ.get("RANK", 0)):
        return Report("accvideo", k, {}, [], [])
    table, notes = judged_arms(k, arms, ("accvideo", "trajectory"), out, seed, progress)
    facts = {name: {"role": ARMS[name], "bytes": None} for name in table}
    also = ("coverage", *(name for name in NUMBERS if name != "precision"))
    rows = summarise(table, "trajectory", "precision", also=also, first=("clips", "updates", "evaluations"), facts=facts)

    toy = lambda name, seed, alive: on_the_line(k, float(name), seed, out, alive)  # noqa: E731
    keys, seeds = {str(m): ["line", m, decides(k)] for m in moved}, range(seed, seed + k["seeds"])
    line = run_trials(toy, keys, seeds, ensure_folder(out / "parts"), progress)[0]
    told = {m: {key: interval([trial[key] for trial in trials]) for key in trials[0]} for m, trials in line.items()}
    extra: dict[str, Any] = {}
    for title, mark in (("useless points of the line, %", ("far", "missed", "crossed")), ("points of the line's student, %", ("near",))):
        extra[title] = [
            {"M": float(m)} | {key: each for key, each in found.items() if any(word in key for word in mark)} for m, found in told.items()
        ]
    notes.append(
        "trajectory, one head and a head a key time see the trajectory loss equally often; the last two have as many updates again"
    )
    if moved:
        notes.append("the line: far and missed are our readings of useless; crossed is high without any mismatch and measures none")
    return Report("accvideo", k, described(k), rows, notes, extra, SCORE)
