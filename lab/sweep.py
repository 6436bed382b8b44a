"""One knob after another: the same run at several settings, each with its interval and its paired difference to one of them; and verdicts.

A verdict is *direction holds*, *direction does not hold* or *cannot tell*: it comes from the 95 % interval of the paired differences over
seeds, never from two means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidistill.errors import choose
from vidistill.lab.report import COLUMNS, markdown_table, shown_number, spread
from vidistill.measure import paired

VERDICTS = {"higher": "direction holds", "lower": "direction does not hold", "cannot tell": "cannot tell"}

Run = Callable[..., Any]
"""A paper's ``run``."""


def sweep(
    run: Run,
    values: Mapping[str, Any],
    videos: Any,
    out: str | Path,
    settings: Mapping[str, Mapping[str, Any]],
    against: str,
    *,
    arm: str = "method",
    **options: Any,
) -> list[dict[str, Any]]:
    """Run a paper once a setting and return one row each.

    Finished trials in ``out`` are read, so that settings which agree in what decides an arm cost nothing.

    Args:
        run, values, videos, out: the paper, its knobs, the data, the folder.
        settings: label -> knobs that it changes.
        against: the label that the others are compared with.
        arm: whose numbers are shown.
        options: of the paper's ``run``.

    Returns:
        for each setting ``setting``, ``score``, ``difference`` (paired by seed; None for ``against``), ``judged`` (what by), and what else
        the arm tells.

    Raises:
        InputError: as the paper, or there is no setting ``against``.
    """
    choose("setting", against, settings)
    found = {}
    for label, knobs in settings.items():
        report = run({**values, **knobs, "arms": arm}, videos, Path(out), **options).as_dict()
        found[label] = next(row for row in report["arms"] if row["name"] == arm) | {"judged": report["score"]}
    base = found[against]["score"]["values"]
    rows = []
    for label, row in found.items():
        difference = None if label == against else paired(row["score"]["values"], base)
        rows.append(
            {"setting": label, "difference": difference} | {key: row[key] for key in ("score", "judged", "clips", *COLUMNS) if key in row}
        )
    return rows


def sweep_table(rows: Sequence[Mapping[str, Any]], against: str) -> str:
    """Return the rows of a sweep as a Markdown table."""
    judged, form = rows[0]["judged"], f".{rows[0]['judged']['digits']}f"
    shown = {key: column for key, column in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    header = ["setting", f"{judged['heading']} [95 %]", f"against {against}", *(heading for heading, _ in shown.values())]
    return markdown_table(
        header,
        [
            [row["setting"], spread(row["score"], form), spread(row["difference"], form, sign=True)]
            + [shown_number(row.get(key), form) for key, (_, form) in shown.items()]
            for row in rows
        ],
    )


def verdict(
    claim: str, ours: Mapping[str, Any], control: Mapping[str, Any], *, names: tuple[str, str], wanted: str = "higher", margin: float = 0.0
) -> dict[str, Any]:
    """Judge a claim by the paired differences of two intervals that share their seeds.

    Args:
        claim: in words.
        ours, control: intervals as :func:`vidistill.measure.interval` returns them.
        names: what they are called.
        wanted: ``"higher"``, ``"lower"`` where less is claimed, or ``"kept"``: not lower by more than ``margin``.
        margin: >= 0, in the unit of the numbers; of ``"kept"`` alone.
    """
    found = paired(ours["values"], control["values"])
    judged = paired([value + margin for value in ours["values"]], control["values"])["verdict"] if wanted == "kept" else found["verdict"]
    turned = {"higher": "lower", "lower": "higher"}.get(judged, judged) if wanted == "lower" else judged
    return {"claim": claim, "arm": names[0], "control": names[1], "difference": found, "verdict": VERDICTS[turned]}


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return verdicts as a Markdown table."""
    rows = [[row["claim"], row["arm"], row["control"], spread(row["difference"], sign=True), row["verdict"]] for row in verdicts]
    return markdown_table(["claim", "arm", "control", "difference [95 %]", "verdict"], rows)
