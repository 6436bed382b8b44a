"""Cards: the claims of a paper, one TOML file each, with what was published and by what a claim is judged here.

A card is written before anything is run. Its published numbers are targets of the tier ``full`` alone; what a toy measures stands beside
them as a direction, never in their column.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vidistill.errors import InputError, nearest
from vidistill.lab.report import markdown_table, spread
from vidistill.lab.sweep import verdict

FOLDER = Path(__file__).with_name("cards")

WANTED = ("higher", "lower", "kept")
OPTIONAL = ("published", "published_control", "margin")


@dataclass(frozen=True)
class Card:
    """A claim.

    Attributes:
        id: the file's name.
        claim: in words.
        source: paper, table, row.
        measure: the number of an arm that it is about.
        arm, control: what is compared; ``"<sweep>:first"`` and ``"<sweep>:last"`` are the ends of a sweep.
        wanted: ``higher``, ``lower``, or ``kept``: not lower by more than ``margin``.
        needs: what tier ``full`` takes.
        published, published_control: the paper's numbers of the two; None where it has none.
        margin: how far from the published number still matches, and what ``kept`` allows; in the measure's unit.
    """

    id: str
    claim: str
    source: str
    measure: str
    arm: str
    control: str
    wanted: str
    needs: str
    published: float | None = None
    published_control: float | None = None
    margin: float = 0.0


def load_cards(paper: str) -> list[Card]:
    """Return the cards of a paper, in the order of their files' names.

    Raises:
        InputError: a file is not TOML, lacks an entry, has an unknown one, or one of another type.
    """
    return [_load(path) for path in sorted(FOLDER.glob(f"{paper}-*.toml"))]


def _load(path: Path) -> Card:
    kinds: dict[str, tuple[type, ...]] = {part.name: (str,) if "str" in str(part.type) else (int, float) for part in fields(Card)}
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8")) | {"id": path.stem}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the card {path}: {error}") from None
    for name, value in held.items():
        if name not in kinds:
            raise InputError(f"card {path}: unknown entry {name!r}: {nearest(name, kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool) or value == "":
            raise InputError(f"card {path}: {name}={value!r} must be {'text' if kinds[name] == (str,) else 'a number'}")
    if missing := [name for name in kinds if name not in held and name not in OPTIONAL]:
        raise InputError(f"card {path} lacks {', '.join(missing)}")
    if held["wanted"] not in WANTED:
        raise InputError(f"card {path}: wanted={held['wanted']!r}: {nearest(held['wanted'], WANTED)}")
    return Card(**held)


def judge_cards(cards: Sequence[Card], rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a verdict for each card whose arms were run and measured, see :func:`vidistill.lab.sweep.verdict`.

    Args:
        cards: claims.
        rows: arms of reports and ends of sweeps by name; each has ``score`` and further intervals.
    """
    found = []
    for card in cards:
        pair = [rows.get(name, {}).get(card.measure) for name in (card.arm, card.control)]
        if all(isinstance(value, Mapping) for value in pair):
            names = [str(rows[name].get("setting", name)) for name in (card.arm, card.control)]
            row = verdict(card.claim, *pair, names=(names[0], names[1]), wanted=card.wanted, margin=card.margin)
            found.append(row | {"card": card.id, "measure": card.measure})
    return found


def claims_table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return verdicts of cards as a Markdown table: what is compared, the paired difference, the verdict."""
    rows = [
        [row["claim"], row["measure"], f"{row['arm']} / {row['control']}", spread(row["difference"], ".3f", sign=True), row["verdict"]]
        for row in verdicts
    ]
    return markdown_table(["claim", "measure", "arm / control", "difference [95 %]", "here, toy"], rows)


def published_table(cards: Sequence[Card]) -> str:
    """Return what was published as a Markdown table, with what a run at full scale would take."""
    number = lambda value: "-" if value is None else f"{value:g}"  # noqa: E731
    rows = [[card.claim, card.source, number(card.published), number(card.published_control), card.needs] for card in cards]
    return markdown_table(["claim", "source", "published", "its control", "tier full: not attempted, needs"], rows)
