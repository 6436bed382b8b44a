"""The trials of a paper in the plane: every arm trained and judged once a seed, and what a report says of their world. Not a paper."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from vidistill.data.plane import WORLDS
from vidistill.files import ensure_folder
from vidistill.measure import run_trials
from vidistill.papers.plane import NUMBERS, Arm, Ground, ground_of
from vidistill.types import Progress


def guidance_of(k: Mapping[str, Any]) -> float:
    """Return the guidance of the teacher: 1 in worlds without classes."""
    return k["guidance"] if WORLDS[k["world"]]().classes > 1 else 1.0


def judged_arms(
    k: Mapping[str, Any], arms: Mapping[str, Arm], always: Collection[str], out: Path, seed: int, progress: Progress
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return what :func:`vidistill.measure.run_trials` does of the arms, with ``k["seeds"]`` teachers from ``seed`` on.

    Raises:
        InputError: a teacher does not pass the gate; an arm that is not in ``always`` is left out instead.
    """
    guidance = guidance_of(k)
    ground = cache(lambda seed: Ground(k, seed, out, guidance))
    score = lambda name, seed, alive: ground(seed).judged(arms[name], alive)  # noqa: E731
    keys = {name: [ground_of(k, guidance), NUMBERS, asdict(arm)] for name, arm in arms.items()}
    seeds = range(seed, seed + k["seeds"])
    return run_trials(score, keys, seeds, ensure_folder(out / "parts"), progress, optional=arms.keys() - set(always))


def described(k: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of its world: no videos are read."""
    world = {"world": k["world"], "classes": [], "train": 0, "test": 0, "skipped": [], "root": "", "layout": "plane"}
    return world | {"points": k["points"], "guidance": guidance_of(k)}
