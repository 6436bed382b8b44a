"""One night of the toy suite against the one before: which verdicts changed and by how much, what may be why, what did not run.

A night is a folder that the suite wrote, named by the time it began (UTC); it is finished when it holds ``status.json``. The suite is
deterministic but for clocks: a number that changed although code, knobs, protocol and environment did not is named, because that is a bug.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from vidistill.errors import InputError
from vidistill.files import load_json, save_json, write_atomic
from vidistill.lab.cards import verdict_of
from vidistill.lab.history import CLOCKS, flat, pairs
from vidistill.lab.report import html_document, html_table, markdown_table, spread
from vidistill.lab.suite import STATUS
from vidistill.measure import paired

NAME, QUICK = "%Y-%m-%dT%H-%M-%SZ", "-quick"
YOUNG = timedelta(days=1)
"""A night that was cut off within this time goes on; an older one is left as it is."""

NOTHING: dict[str, Any] = {"papers": {}, "environment": {}, "failed": []}
PAIRED = {"measure", "arm", "control", "run"}
"""What of a card's rule two nights must share for their differences to be of one thing."""

CLOCKED = (*CLOCKS, "rate", "times")
"""Measures of cards that a clock takes, or that are ratios of such; what is exact was counted."""

Block = tuple[str, list[str], list[list[str]]]
"""A title, the header of a table, its rows."""


# Folders.


def began(folder: Path) -> datetime | None:
    """Return when a night began, as its folder's name says; None for a folder of another name."""
    try:
        return datetime.strptime(folder.name.removesuffix(QUICK), NAME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _nights(root: Path, quick: bool) -> list[Path]:
    """Return the nights in a folder, oldest first; quick ones are compared with quick ones alone."""
    found = [folder for folder in root.glob("*") if folder.is_dir() and not folder.is_symlink() and began(folder)]
    return sorted(folder for folder in found if folder.name.endswith(QUICK) == quick)


def open_night(root: str | Path, quick: bool = False, now: datetime | None = None) -> Path:
    """Return the folder of this night: the newest where that was cut off less than a day ago, else a new one."""
    root, now = Path(root), now or datetime.now(UTC)
    for folder in _nights(root, quick)[-1:]:
        start = began(folder)
        if start and not (folder / STATUS).is_file() and timedelta(0) <= now - start < YOUNG:
            return folder
    return root / (now.astimezone(UTC).strftime(NAME) + QUICK * quick)


def previous_night(folder: str | Path) -> Path | None:
    """Return the newest finished night beside ``folder`` that began before it; None where there is none."""
    folder = Path(folder)
    known = [night for night in _nights(folder.parent, folder.name.endswith(QUICK)) if (night / STATUS).is_file()]
    return max((night for night in known if night.name < folder.name), default=None)


def forget_nights(folder: str | Path, keep: int) -> list[Path]:
    """Delete all but the newest ``keep`` nights up to ``folder``, which stays; return the deleted ones.

    Raises:
        InputError: a folder cannot be deleted.
    """
    folder = Path(folder)
    known = [night for night in _nights(folder.parent, folder.name.endswith(QUICK)) if night.name < folder.name]
    gone = known[: max(len(known) - keep + 1, 0)]
    for night in gone:
        try:
            shutil.rmtree(night)
        except OSError as error:
            raise InputError(f"cannot delete the old night {night}: {error.strerror or error}; delete it by hand") from None
    return gone


def read_night(folder: str | Path) -> dict[str, Any]:
    """Return the status of a finished night.

    Raises:
        InputError: there is none, or it is not what the suite writes.
    """
    path = Path(folder, STATUS)
    status = load_json(path)
    try:
        sound = all(isinstance(status[name], dict) for name in ("papers", "environment")) and "started" in status
        sound &= all(isinstance(line, str) for line in status["failed"])
        for held in status["papers"].values():
            sound &= all(name in held for name in ("code", "protocol", "version"))
            sound &= all(isinstance(run["parameters"], dict) for run in held["runs"].values())
            sound &= all({"card", "rule", "value", "against", "verdict"} <= row.keys() for row in held["cards"])
            sound &= all(isinstance(row["difference"]["values"], list) for row in held["cards"])
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(f"{path} is not the status of a suite: vidistill reproduce --all writes one")
    return status


# Comparing.


def compare_nights(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs between two nights, JSON-ready.

    Args:
        old, new: as :func:`read_night` returns them; None for ``old`` is the night before the first.

    Returns:
        ``nights`` (when and from which commit, of both); ``verdicts`` (how many of each, of both); ``changed`` (cards with another
        verdict), ``moved`` (with other numbers alone), ``unexplained`` (ids of those of both lists for which there is no reason: neither
        code, protocol, parameters, environment nor the card's own rule changed, and they measure no clock), ``came`` and ``went`` (cards);
        ``environment`` and ``papers`` (what changed, each a pair); ``failed`` (what went wrong in the new night, a line each, and whether
        it did so before); ``seconds`` (of each run, then and now).
        A card has ``then``, ``now`` and ``change``: the paired difference of arm and control, then, now, and now minus then over the
        seeds that both nights share; ``effect`` holds Cohen's d_z of the three. No shared seeds, or other arms: no change.
    """
    before = old or NOTHING
    environment = pairs(flat(before["environment"]), flat(new["environment"])) if old else {}
    both = [paper for paper in new["papers"] if paper in before["papers"]]
    papers = {paper: why for paper in both if (why := _why(before["papers"][paper], new["papers"][paper]))}
    rows = [_cards(night) for night in (before, new)]
    shared = {key: _compared(*key, rows[0][key], rows[1][key], before, new) for key in rows[1] if key in rows[0]}
    changed = [row for row in shared.values() if row["was"] != row["is"]]
    known = {line.partition(":")[0] for line in before["failed"]}
    moved = [row for row in shared.values() if row["was"] == row["is"] and row["numbers"]]
    return {
        "nights": [{name: night.get(name) for name in ("tier", "started", "finished", "commit")} for night in (before, new)],
        "verdicts": [dict(Counter(row["verdict"] for row in held.values())) for held in rows],
        "changed": changed,
        "moved": moved,
        "unexplained": [
            row["card"] for row in changed + moved if not (environment or row["paper"] in papers or row["asked"] or row["clock"])
        ],
        "came": [_told(paper, row) for (paper, card), row in rows[1].items() if (paper, card) not in rows[0]],
        "went": [_told(paper, row) for (paper, card), row in rows[0].items() if (paper, card) not in rows[1]],
        "environment": environment,
        "papers": papers,
        "failed": [{"line": line, "before": line.partition(":")[0] in known} for line in new["failed"]],
        "seconds": [
            {"paper": paper, "run": run, "then": _run(before, paper, run).get("seconds"), "now": held.get("seconds")}
            for paper, run, held in _runs(new)
        ],
    }


def _why(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changed about a paper that may change its numbers."""
    names = ("code", "protocol", "version")
    found: dict[str, Any] = pairs({name: one[name] for name in names}, {name: other[name] for name in names})
    for run in [run for run in other["runs"] if run in one["runs"]]:
        given = (held["runs"][run]["parameters"] for held in (one, other))
        found |= {f"{run}: {name}": pair for name, pair in pairs(*given).items()}
    return found


def _cards(night: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(paper, row["card"]): row for paper, held in night["papers"].items() for row in held["cards"]}


def _runs(night: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for paper, held in night["papers"].items():
        yield from ((paper, run, found) for run, found in held["runs"].items())


def _run(night: Mapping[str, Any], paper: str, run: str) -> Mapping[str, Any]:
    return night["papers"].get(paper, {}).get("runs", {}).get(run, {})


def _told(paper: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"paper": paper, **{name: row[name] for name in ("card", "claim", "measure", "arm", "control", "verdict")}}


def _compared(
    paper: str, card: str, then: Mapping[str, Any], now: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a card that both nights have, by its rows in them."""
    asked = pairs(*({**row["rule"], "claim": "", "arm": row["arm"], "control": row["control"]} for row in (then, now)))
    by_seed = [
        dict(enumerate(row["difference"]["values"], _run(night, paper, row["rule"]["run"]).get("parameters", {}).get("seed", 0)))
        for night, row in ((old, then), (new, now))
    ]
    seeds = [seed for seed in by_seed[0] if seed in by_seed[1]]
    earlier, later = ([held[seed] for seed in seeds] for held in by_seed)
    change = paired(later, earlier) if seeds and not asked.keys() & PAIRED else None
    clock = now["measure"] in CLOCKED and not now["difference"].get("exact")
    differences = [then["difference"], now["difference"]]
    numbers = any(then[name]["values"] != now[name]["values"] for name in ("value", "against", "difference"))
    return {
        **{"paper": paper, "card": card, "claim": now["claim"], "measure": now["measure"], "arm": now["arm"], "control": now["control"]},
        **{"was": verdict_of(then), "is": verdict_of(now), "then": differences[0], "now": differences[1], "change": change},
        "effect": [_d_z(found) for found in (*differences, change)],
        **{"asked": asked, "clock": clock, "numbers": numbers and not clock},
    }


def _d_z(difference: Mapping[str, Any] | None) -> float | None:
    """Return Cohen's d_z, the mean of paired differences in their standard deviations; None where there is no deviation."""
    return difference["mean"] / difference["std"] if difference and difference["std"] else None


# Telling.


def headline(changes: Mapping[str, Any]) -> str:
    """Return the comparison in one line."""
    known = sum(changes["verdicts"][1].values())
    if not any(changes["verdicts"][0].values()):
        return f"the first night: {known} verdicts, {_count(changes['failed'], 'failure')}"
    parts = [f"{len(changes['changed'])} of {known} verdicts changed", f"{_count(changes['moved'], 'other number')} changed"]
    parts += [f"{_count(changes['came'], 'card')} came and {len(changes['went'])} went", f"{_count(changes['failed'], 'failure')}"]
    return ", ".join(parts) + (f"; {len(changes['unexplained'])} WITHOUT A REASON" if changes["unexplained"] else "")


def _count(rows: Sequence[Any], what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"


def _blocks(changes: Mapping[str, Any]) -> Iterator[Block]:
    """Yield the tables of a comparison; those that would be empty are left out."""
    header = [
        "card",
        "claim",
        "measure",
        "arm / control",
        "verdict",
        "difference then [95 %]",
        "now",
        "change",
        "d_z then, now, of the change",
    ]
    strange = set(changes["unexplained"])
    for title, rows in (
        ("Changed without a reason: same code, knobs, protocol and environment", [r for r in _both(changes) if r["card"] in strange]),
        ("Verdicts that changed", [row for row in changes["changed"] if row["card"] not in strange]),
        ("Numbers that changed, their verdict as before", [row for row in changes["moved"] if row["card"] not in strange]),
    ):
        if rows:
            yield title, header, [_row(row) for row in rows]
    for title, rows in (("Cards that came", changes["came"]), ("Cards that went", changes["went"])):
        if rows:
            yield title, ["card", "claim", "measure", "verdict"], [[r["card"], r["claim"], r["measure"], r["verdict"]] for r in rows]
    if rows := [
        *(["environment", name, *map(str, pair)] for name, pair in changes["environment"].items()),
        *([paper, name, *map(str, pair)] for paper, held in changes["papers"].items() for name, pair in held.items()),
    ]:
        yield "What else changed", ["where", "what", "then", "now"], rows
    if rows := [[held["line"], "too" if held["before"] else "no"] for held in changes["failed"]]:
        yield "What failed", ["what", "the night before"], rows
    if changes["seconds"]:
        yield "Time", ["run", "then, s", "now, s", "change, %"], [_time(row) for row in changes["seconds"]]


def _both(changes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*changes["changed"], *changes["moved"]]


def _row(row: Mapping[str, Any]) -> list[str]:
    verdict = row["is"] if row["was"] == row["is"] else f"{row['was']} → {row['is']}"
    effects = ", ".join("-" if value is None else f"{value:+.2f}" for value in row["effect"])
    numbers = [spread(row[name], ".3f", sign=True) for name in ("then", "now", "change")]
    return [row["card"], row["claim"], row["measure"], f"{row['arm']} / {row['control']}", verdict, *numbers, effects]


def _time(row: Mapping[str, Any]) -> list[str]:
    then, now = row["then"], row["now"]
    shown = ["-" if value is None else f"{value:,.0f}" for value in (then, now)]
    return [f"{row['paper']}, {row['run']}", *shown, f"{100 * (now / then - 1):+.0f}" if then and now is not None else "-"]


def _nights_line(changes: Mapping[str, Any]) -> str:
    told = []
    for night in changes["nights"]:
        commit = night["commit"]
        commit = commit["commit"] + "+" * bool(commit["dirty"]) if isinstance(commit, Mapping) else commit
        told.append(f"{night['started']} ({str(commit)[:10]})" if night["started"] else "no night")
    return " → ".join(told)


def changes_markdown(changes: Mapping[str, Any]) -> str:
    """Return a comparison as Markdown."""
    parts = [f"# {headline(changes)}", _nights_line(changes)]
    for title, header, rows in _blocks(changes):
        parts += [f"## {title}", markdown_table(header, [[cell.replace("|", "\\|") for cell in row] for row in rows])]
    return "\n\n".join(parts) + "\n"


def changes_page(changes: Mapping[str, Any]) -> str:
    """Return a comparison as one HTML page without script."""
    blocks = [f"<h1>{escape(headline(changes))}</h1><p>{escape(_nights_line(changes))}</p>"]
    for title, header, rows in _blocks(changes):
        blocks.append(f"<h2>{escape(title)}</h2>{html_table(header, [[escape(cell) for cell in row] for row in rows])}")
    return html_document("what changed", "\n".join(blocks))


def write_changes(folder: str | Path, previous: str | Path | None) -> dict[str, Any]:
    """Compare a finished night with ``previous``, write ``changes.json``, ``changes.md`` and ``changes.html`` beside it, and return it.

    Raises:
        InputError: one of the two has no sound ``status.json``.
    """
    changes = compare_nights(read_night(previous) if previous else None, read_night(folder))
    save_json(Path(folder, "changes.json"), changes)
    markdown, page = changes_markdown(changes), changes_page(changes)
    write_atomic(Path(folder, "changes.md"), lambda temporary: temporary.write_text(markdown, encoding="utf-8"))
    write_atomic(Path(folder, "changes.html"), lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return changes
