"""Where each claim stands: the results that are kept with the project, judged anew by rule, and whether they still count.

    lab/results/<paper>.json --rule of its card--> verdict --code, protocol, parameters, card as they are now--> fresh or stale

A verdict is never kept: it is taken from the kept intervals whenever it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidistill.errors import InputError
from vidistill.files import digest, load_json, save_json, write_atomic
from vidistill.lab import presets
from vidistill.lab.cards import Card, judge, load_cards, load_protocol
from vidistill.lab.code import code_digest
from vidistill.lab.report import markdown_table, spread

FOLDER = Path(__file__).with_name("results")
TABLE = FOLDER / "README.md"
SEAL = "sha256"
BEGIN, END = "<!-- status: begin -->", "<!-- status: end -->"

ABSENT, MISSING = "not attempted", "not measured"
STATES = ("direction holds", "direction does not hold", "cannot tell", MISSING, ABSENT)
PUBLISHED = ("matched", "consistent", "differs", "cannot tell")


@dataclass(frozen=True)
class Standing:
    """Where a claim stands.

    Attributes:
        card: the claim.
        row: its verdict row, None where there is none.
        state: one of ``STATES``.
        stale: why its numbers no longer count, empty while they do.
    """

    card: Card
    row: Mapping[str, Any] | None
    state: str
    stale: str = ""

    @property
    def words(self) -> str:
        """The verdict as it is shown."""
        if self.state == ABSENT:
            return f"{ABSENT}: {self.card.absent}"
        return self.state + (f" (stale: {self.stale})" if self.stale else "")


def results_file(paper: str) -> Path:
    """Return where the results of a paper are kept with the project."""
    return FOLDER / f"{paper}.json"


def keep(status: Mapping[str, Any]) -> list[Path]:
    """Keep a suite's results with the project, but for the folders of this machine that their commands name; return the files.

    Raises:
        InputError: the suite was a quick one, or something in it failed.
    """
    if status["quick"]:
        raise InputError("a quick suite is too short to be kept: run it without --quick")
    if status["failed"]:
        raise InputError(f"{len(status['failed'])} parts of the suite failed, so nothing is kept; first: {status['failed'][0]}")
    told = {name: status[name] for name in ("tier", "started", "finished", "commit", "environment")}
    for paper, held in status["papers"].items():
        runs = {run: {**found, "command": found["command"].partition(" --out ")[0]} for run, found in held["runs"].items()}
        whole = {**told, **held, "runs": runs}
        save_json(results_file(paper), whole | {SEAL: digest(whole, 64)})
    return [results_file(paper) for paper in status["papers"]]


def kept(paper: str) -> dict[str, Any]:
    """Return the results that are kept of a paper, none where there are none.

    Raises:
        InputError: the file is no JSON, or is not as the suite wrote it.
    """
    path = results_file(paper)
    if not path.is_file():
        return {}
    held = load_json(path)
    if held.pop(SEAL, None) != digest(held, 64):
        raise InputError(f"{path} was changed after the suite wrote it (its SHA-256 differs): vidistill reproduce --all --tier toy --write")
    return held


def standings(paper: str, results: Mapping[str, Any] | None = None) -> list[Standing]:
    """Return where each claim of a paper stands.

    Args:
        paper: its name.
        results: of a suite, one of ``status["papers"]``; those kept with the project when None.

    Raises:
        InputError: the kept results, a card or the protocol is broken.
    """
    if results is None:
        results = kept(paper)
    rows = {row["card"]: row for row in results.get("cards", [])}
    aged = _aged(paper, results) if rows else {}
    return [_standing(card, rows.get(card.id), aged.get(card.run, "")) for card in load_cards(paper)]


def _standing(card: Card, row: Mapping[str, Any] | None, aged: str) -> Standing:
    if card.absent:
        return Standing(card, None, ABSENT)
    if row is None:
        return Standing(card, None, MISSING)
    judged = {**row, **judge(card, row["value"], row["against"]), "arm": row["arm"], "control": row["control"]}
    changed = sorted(name for name, value in card.rule.items() if name != "claim" and row["rule"].get(name) != value)
    return Standing(card, judged, judged["verdict"], aged or (f"the card's {changed[0]} changed" if changed else ""))


def _aged(paper: str, results: Mapping[str, Any]) -> dict[str, str]:
    """Return why the numbers of each run no longer count; a run is left out where they do."""
    protocol, code = load_protocol(paper), code_digest(paper)
    found = {}
    for run in protocol.runs:
        held = results["runs"].get(run, {}).get("parameters")
        if [results["protocol"], results["version"]] != [protocol.protocol, protocol.version]:
            found[run] = "the protocol changed"
        elif results["code"] != code:
            found[run] = "the code changed"
        elif held is not None and held != protocol.parameters(run, bool(results.get("quick"))):
            found[run] = "the parameters changed"
    return found


# Tables.


def claim_rows(found: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the claims of a paper, as text; a toy's number never stands in the column of the paper's."""
    header = ["claim", "here, toy", "arm", "control", "measure", "difference [95 %]", "seeds", "arm [95 %]", "control [95 %]"]
    header += ["published", "its control", "here against published", "source"]
    return header, [_claim_row(one) for one in found]


def _claim_row(one: Standing) -> list[str]:
    card, row = one.card, one.row
    numbers = ["-"] * 4
    if row:
        difference, value, against = (spread(row[name], ".4g", sign=name == "difference") for name in ("difference", "value", "against"))
        numbers = [difference, "exact" if row["difference"].get("exact") else str(row["difference"]["n"]), value, against]
    published = ["-" if number is None else f"{number:g}" for number in (card.published, card.published_control)]
    arms = [str(row[name]) for name in ("arm", "control")] if row else [card.arm, card.control]
    told = row.get("published", ABSENT) if row else ABSENT
    return [card.claim, one.words, *arms, card.measure, *numbers, *published, told if card.published is not None else "-", card.source]


def summary_rows(found: Mapping[str, Sequence[Standing]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a count of states for each paper, as text.

    Claims that one comparison judges, say of several data sets, are no independent evidence: comparisons are counted beside them.
    """
    header = ["paper", "claims", "comparisons", "hold", "do not hold", "cannot tell", "not measured", "not attempted", "stale"]
    header += ["published: matched, consistent, differ"]
    rows = []
    for paper, standing in found.items():
        states = Counter(one.state for one in standing)
        told = Counter(one.row["published"] for one in standing if one.row and "published" in one.row)
        counts = [str(states[state]) for state in STATES]
        stale = str(sum(bool(one.stale) for one in standing))
        compared = {(one.card.run, one.card.measure, one.card.arm, one.card.control) for one in standing if one.row}
        rows.append([paper, str(len(standing)), str(len(compared)), *counts, stale, ", ".join(str(told[word]) for word in PUBLISHED[:3])])
    return header, rows


def readme_block(found: Mapping[str, Sequence[Standing]]) -> str:
    """Return the table between the markers of the README."""
    return f"{BEGIN}\n{markdown_table(*summary_rows(found))}\n{END}"


def claims_page(found: Mapping[str, Sequence[Standing]]) -> str:
    """Return ``lab/results/README.md``: every claim, when it was measured and what that cost."""
    parts = [
        "# Where every claim stands",
        "Written by `vidistill cards --write` from the results beside this file; a verdict comes from the paired 95 % interval over seeds.",
    ]
    for paper, standing in found.items():
        parts += [f"## {paper}", _measured(paper), markdown_table(*claim_rows(standing))]
    return "\n\n".join(parts) + "\n"


def _measured(paper: str) -> str:
    protocol = load_protocol(paper)
    line = f"Protocol `{protocol.protocol}`, version {protocol.version}. Toy: {protocol.deviations}"
    if not (held := kept(paper)):
        return line
    seconds = sum(run["seconds"] for run in held["runs"].values())
    peak = max(run["peak_bytes"] for run in held["runs"].values())
    source = held["commit"]["commit"][:8] if held["commit"] else "no commit"
    cost = f"{seconds / 60:.0f} min with one thread, {peak / 2**20:,.0f} MiB"
    return f"{line}\n\nMeasured {held['started'][:10]} at {source} on {held['environment']['device_name']}: {cost}."


def all_standings() -> dict[str, list[Standing]]:
    """Return the standings of every paper."""
    return {paper: standings(paper) for paper in presets.PAPERS}


def write_tables(readme: str | Path) -> list[Path]:
    """Write the table between the markers of ``readme``, and ``lab/results/README.md``; return both.

    Raises:
        InputError: the file has not exactly one pair of markers.
    """
    readme, found = Path(readme), all_standings()
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{readme} must hold the lines {BEGIN} and {END} once each, in this order")
    block = text[: text.index(BEGIN)] + readme_block(found) + text[text.index(END) + len(END) :]
    page = claims_page(found)
    write_atomic(readme, lambda temporary: temporary.write_text(block, encoding="utf-8"))
    write_atomic(TABLE, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return [readme, TABLE]
