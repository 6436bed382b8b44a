"""What a model of the zoo has to reach, and how two cards of one model are held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidistill.measure import generated as measure

CORES = 2
"""The bars on seconds are for so many cores of a CPU: with more threads, or on a GPU, they are not judged."""

TARGETS = {"motion": 0.85, "shape": 0.90, "colour": 0.95}
SECONDS = {"lab-unet": 4.0, "lab-dit": 1.2}
"""Bars on fidelity, and on the seconds of a clip of 20 guided steps."""

KEPT = 0.95
"""What a few-step student has to keep of its teacher's fidelity."""

COMPARED = (
    *("parameters", "bytes", "weights_sha256", "sampling"),  # these must be equal
    *("fidelity", "fidelity_by_value", "coverage", "spread", "drift", "contrast", "saturation", "nearest_training"),
    *("accuracy", "accuracy_through_codec", "psnr_db", "latents"),
)
"""The sections of a card that another machine must reproduce; seconds, costs and versions are its own."""

EXACT = COMPARED[:4]


def beside(card: dict[str, Any]) -> str:
    """Return the name of the model that a card's is measured against: a few-step student's teacher, else lab-unet."""
    return "lab-dit" if card.get("sampling", {}).get("times") else "lab-unet"


def bars(card: dict[str, Any], other: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the bars that the model has to reach, each judged by its measured value.

    Args:
        card: of a model.
        other: card of the model that :func:`beside` names; lab-base, lab-dit and the students are measured against it.

    Returns:
        ``[{"bar", "mean", "low", "high", "target", "reached", "note"}]``; ``reached`` is ``None`` where it could not be measured.
    """
    return list(_bars(card, other))


def _bars(card: dict[str, Any], other: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    name = card["name"]
    if "accuracy" in card:
        for where, key in (("raw clips", "accuracy"), ("clips through lab-vae", "accuracy_through_codec")):
            for factor, row in card[key].items():
                yield _bar(f"{factor}, {where}", row, ">=", 0.98, unit="share")
    if name in SECONDS:
        for factor, target in TARGETS.items():
            yield _bar(f"{factor} fidelity", card["fidelity"]["parser"][factor], ">=", target, unit="share")
        row = card["drift"]["any"]
        note = f"of {row['generated']['n']} clips" if row["ratio"]["mean"] is not None else "the real clips have no drift at all"
        yield _bar("identity drift / real clips'", row["ratio"], "<=", 1.5, note=note)
        yield from _looks(card)
        seconds = card["seconds"]
        small = seconds["device"] == "cpu" and seconds["threads"] <= CORES
        note = f"{seconds['device']}, {seconds['threads']} threads" + ("" if small else f": the bar is for {CORES} cores of a CPU")
        if twenty := seconds["by steps, with guidance and decoding"].get("20"):
            yield _bar("seconds, 20 guided steps", twenty, "<=", SECONDS[name], judged=small, note=note)
        loading = {"mean": seconds["loading from disk"], "low": None, "high": None}
        yield _bar("seconds to load", loading, "<=", 3.0, judged=small, note=note)
    if name == "lab-dit":
        row = card["fidelity"]["parser"]["together"]
        goal = other["fidelity"]["parser"]["together"]["mean"] if other else None
        note = "target: lab-unet's" if other else "lab-unet has no card to compare with"
        yield _bar("motion, shape and colour together", row, ">", goal, unit="share", judged=other is not None, note=note)
    if beside(card) == "lab-dit":
        for factor in TARGETS:
            row = card["fidelity"]["parser"][factor]
            goal = KEPT * other["fidelity"]["parser"][factor]["mean"] if other else None
            note = f"target: {KEPT:.0%} of lab-dit's" if other else "lab-dit has no card to compare with"
            yield _bar(f"{factor} fidelity", row, ">=", goal, unit="share", judged=other is not None, note=note)
        yield from _looks(card)
    if name == "lab-base":
        row = {"mean": None, "low": None, "high": None, "n": 0}
        if other:
            row = measure.ratio_of_means(card["drift"]["any"]["generated"], other["drift"]["any"]["generated"])
        yield _bar("identity drift / lab-unet's", row, ">=", 3.0, note="" if other else "lab-unet has no card to compare with")
        for factor, value in card["defects"]["never shown"].items():
            row = card["fidelity_by_value"].get(factor, {}).get(value) or measure.share([])
            yield _bar(f"fidelity of the missing {factor}, {value}", row, "<=", 0.30, unit="share", note=f"{row['n']} clips")


def _looks(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the bars on how a model's clips look beside real ones."""
    for look in ("contrast", "saturation"):
        yield _bar(f"{look} / real clips'", card[look]["ratio"], "within", (0.9, 1.1))


def _bar(bar: str, row: dict[str, Any], sign: str, target: Any, *, unit: str = "", judged: bool = True, note: str = "") -> dict[str, Any]:
    mean = row["mean"]
    reached = None
    if judged and mean is not None and target is not None:
        low, high = target if sign == "within" else (target, target)
        reached = {">=": mean >= low, ">": mean > low, "<=": mean <= high, "within": low <= mean <= high}[sign]
    of = (lambda value: f"{100 * value:.3g} %") if unit == "share" else (lambda value: f"{value:.3g}")
    goal = "" if target is None else f"{of(target[0])} to {of(target[1])}" if sign == "within" else f"{sign} {of(target)}"
    numbers = {key: row[key] for key in ("mean", "low", "high")}
    return {"bar": bar, **numbers, "unit": unit, "target": goal, "reached": reached, "note": note}


def show_bar(bar: dict[str, Any]) -> str:
    """Return a bar as one line: what it is, the measured value, the target, the note."""
    value = percent(bar) if bar["unit"] == "share" else show(bar)
    return f"{bar['bar']} {value}" + f", target {bar['target']}" * bool(bar["target"]) + f" ({bar['note']})" * bool(bar["note"])


def leaves(card: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a card that another machine must reproduce, by path; one with an interval is a dict with ``mean``."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and "mean" not in value:
            for key, item in value.items():
                yield from walk(item, f"{path}, {key}" if path else key)
        elif value is not None:
            yield path, value

    return {path: value for section in COMPARED if section in card for path, value in walk(card[section], section)}


def compare(new: dict[str, Any], old: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Hold a new card against an older one, number by number.

    Returns:
        ``[{"number", "new", "old", "verdict"}]``; the verdict is ``"overlaps"`` or ``"DIFFERS"`` for numbers with intervals, ``"same"`` or
        ``"DIFFERS"`` for what must be equal, ``"no interval"`` for numbers without, and ``"not in both"``.
    """
    mine, theirs = leaves(new), leaves(old or {})
    rows = []
    for path in dict.fromkeys([*mine, *theirs]):
        a, b = mine.get(path), theirs.get(path)
        if a is None or b is None:
            verdict = "not in both" if old else ""
        elif path.split(",")[0] in EXACT:
            verdict = "same" if a == b else "DIFFERS"
        else:
            verdict = _overlap(a, b)
        rows.append({"number": path, "new": a, "old": b, "verdict": verdict})
    return rows


def _overlap(a: Any, b: Any) -> str:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return "same" if a == b else "no interval"
    if a["mean"] == b["mean"]:
        return "overlaps"
    if any(row.get(end) is None for row in (a, b) for end in ("low", "high")):
        return "no interval"
    return "overlaps" if a["low"] <= b["high"] and b["low"] <= a["high"] else "DIFFERS"


def show(value: Any) -> str:
    """Return a number of a card as text, with its interval where it has one."""
    if isinstance(value, dict):
        mean, ends = value.get("mean"), (value.get("low"), value.get("high"))
        if mean is None:
            return "-"
        return f"{mean:.4g}" + (f" ({ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else "")
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)[:16]


def percent(row: dict[str, Any] | None) -> str:
    """Return a share in percent with its interval."""
    if row is None or row["mean"] is None:
        return "-"
    ends = f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row.get("low") is not None and row.get("high") is not None else ""
    return f"{100 * row['mean']:.1f} %{ends}"
