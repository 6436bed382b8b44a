"""Arms times seeds: every number beside its control, every repetition kept on disk so that an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidistill.errors import InputError, choose
from vidistill.files import digest, load_json, save_json
from vidistill.measure.intervals import interval, paired
from vidistill.types import Progress, silent


def pick_arms(wanted: str, arms: Mapping[str, Any], always: Sequence[str]) -> list[str]:
    """Return the arms of ``"all"`` or ``"a, b"``, with those that must ``always`` be there (the method and its control) in front.

    Raises:
        InputError: an arm is unknown; the line names the nearest.
    """
    names = arms if wanted == "all" else [choose("arm", name.strip(), arms) for name in wanted.split(",")]
    return list(dict.fromkeys([*always, *names]))


def run_trials(
    score: Callable[[str, int, Progress], dict[str, Any]],
    keys: Mapping[str, Any],
    seeds: Sequence[int],
    folder: Path,
    progress: Progress = silent,
    optional: Collection[str] = (),
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Call ``score(arm, seed, alive)`` for every arm and seed, once each; a result already on disk is read instead.

    Args:
        score: measures one arm with one seed; returns a JSON-ready dict. It must depend on nothing but its arguments and the arm's key,
            and it calls ``alive`` now and then, so that a long trial can be cancelled.
        keys: for each arm, everything that its result depends on besides the seed; equal keys share one result.
        seeds: the repetitions, paired over arms.
        folder: holds ``<digest of key and seed>.json`` for each finished trial, written atomically.
        progress: called with stage ``"trials"``.
        optional: arms that are left out, with a note, when ``score`` refuses them with an ``InputError``.

    Returns:
        ``{arm: [result of seeds[0], result of seeds[1], ...]}``, and one line per arm that was left out.

    Raises:
        InputError: an arm that is not optional was refused.
    """
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in keys}
    refused: dict[str, str] = {}
    plan = [(name, seed) for name in keys for seed in seeds]
    for done, (name, seed) in enumerate(plan):
        progress("trials", done, len(plan))
        path = folder / f"{digest([keys[name], seed])}.json"
        try:
            if name not in refused and not path.exists():
                save_json(path, score(name, seed, lambda *_, done=done: progress("trials", done, len(plan))))
        except InputError as error:
            if name not in optional:
                raise
            refused[name] = str(error)
        if name not in refused:
            table[name].append(load_json(path))
    progress("trials", len(plan), len(plan))
    kept = {name: trials for name, trials in table.items() if name not in refused}
    return kept, [f"{name}: left out, {reason}" for name, reason in refused.items()]


def summarise(
    table: Mapping[str, list[dict[str, Any]]],
    control: str,
    metric: str,
    also: Sequence[str] = (),
    first: Sequence[str] = (),
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return one row per arm of a report.

    Each row has ``name``, ``score`` (the interval of ``metric`` over seeds), ``difference`` (the interval of the paired differences to
    the arm ``control``), one interval per name in ``also`` (None where a trial has no such number), the value of the first seed per name in
    ``first``, and the arm's ``facts``.
    """
    against = [trial[metric] for trial in table[control]]
    rows = []
    for name, trials in table.items():
        values = [trial[metric] for trial in trials]
        row: dict[str, Any] = {"name": name, "score": interval(values), "difference": paired(values, against)}
        for other in also:
            found = [trial[other] for trial in trials]
            row[other] = None if None in found else interval(found)
        rows.append(row | {part: trials[0][part] for part in first} | dict((facts or {}).get(name, {})))
    return rows
