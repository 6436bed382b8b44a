"""Cards: the claims of a paper, one TOML file each: what was published, and by what it is judged here; and the protocol that tries them.

A card is written before anything is run. Its published numbers are targets of the tiers ``small`` and ``full`` alone, and of what is exact
arithmetic; what a toy measures stands beside them as a direction, never in their column.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from vidistill.errors import InputError, choose, nearest
from vidistill.lab.presets import TIERS
from vidistill.lab.report import markdown_table, spread
from vidistill.lab.sweep import verdict
from vidistill.measure import exact

FOLDER = Path(__file__).with_name("cards")

WANTED = ("higher", "lower", "kept")

SEEDS = 5
"""Fewer paired seeds cannot tell."""

JUDGED = ("claim", "measure", "arm", "control", "wanted", "margin", "published", "published_control", "run", "absent")
"""What of a card decides its verdict; the rest is words."""


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
        published, published_control: the paper's numbers of the two; None where it has none.
        margin: how far from the published number still matches, and what ``kept`` allows; in the measure's unit.
        run: which of the protocol's runs judges it.
        needs: what tier ``full`` takes, if not what the protocol says.
        deviations: what differs here from the paper, if not what the protocol says.
        absent: why no toy judges it; empty for a card that one does.
    """

    id: str
    claim: str
    source: str
    measure: str
    arm: str
    control: str
    wanted: str
    published: float | None = None
    published_control: float | None = None
    margin: float = 0.0
    run: str = "main"
    needs: str = ""
    deviations: str = ""
    absent: str = ""

    @property
    def rule(self) -> dict[str, Any]:
        """What decides its verdict."""
        return {name: getattr(self, name) for name in JUDGED}


@dataclass(frozen=True)
class Protocol:
    """How the claims of a paper are tried.

    Attributes:
        paper: its name.
        protocol, version: identity; the version is raised whenever what is measured changes, or how.
        deviations: what tier ``toy`` differs in from the paper, in a line.
        toy: ``data``, ``model`` and ``cost`` of the tier, in words.
        runs: of tier ``toy``, name -> parameters of the reproduce notebook that differ from its own.
        quick: the same names -> further parameters of the shortest form.
        small, full: ``data``, ``model``, ``command`` and ``cost`` of these tiers; ``full`` also ``needs``, in a line.
    """

    paper: str
    protocol: str
    version: int
    deviations: str
    toy: Mapping[str, str]
    runs: Mapping[str, Mapping[str, Any]]
    quick: Mapping[str, Mapping[str, Any]]
    small: Mapping[str, str]
    full: Mapping[str, str]

    def parameters(self, run: str = "main", quick: bool = False) -> dict[str, Any]:
        """Return the parameters of a run of tier ``toy``.

        Raises:
            InputError: there is no such run.
        """
        choose(f"run of {self.paper}", run, self.runs)
        return {"tier": "toy", **self.runs[run], **(self.quick[run] if quick else {})}


WORDS = {"toy": ("data", "model", "cost"), "small": ("data", "model", "command", "cost")}
WORDS["full"] = (*WORDS["small"], "needs")


def load_cards(paper: str) -> list[Card]:
    """Return the cards of a paper, in the order of their files' names.

    Raises:
        InputError: a file is not TOML, lacks an entry, has an unknown one, or one of another type.
    """
    return [_card(path) for path in sorted(FOLDER.glob(f"{paper}-*.toml"))]


def load_protocol(paper: str) -> Protocol:
    """Return the protocol of a paper, checked.

    Raises:
        InputError: there is none, it is not TOML, or an entry is missing, unknown or of another type.
    """
    path = FOLDER / f"{paper}.toml"
    held = _checked(path, Protocol, "protocol") | {"paper": paper}
    for tier, words in WORDS.items():
        if wrong := [name for name, value in held[tier].items() if name not in words or not isinstance(value, str)]:
            raise InputError(f"protocol {path}: [{tier}] {wrong[0]!r} must be one of the lines {', '.join(words)}")
        if missing := [name for name in words if name not in held[tier]]:
            raise InputError(f"protocol {path}: [{tier}] lacks {', '.join(missing)}")
    if not held["runs"] or held["runs"].keys() != held["quick"].keys():
        raise InputError(f"protocol {path}: every run needs both [runs.NAME] and [quick.NAME], and there must be one")
    for card in load_cards(paper):
        choose(f"run of card {card.id}", card.run, held["runs"])
    return Protocol(**held)


def _card(path: Path) -> Card:
    held = _checked(path, Card, "card") | {"id": path.stem}
    choose(f"card {path}: wanted", held["wanted"], WANTED)
    return Card(**held)


def _checked(path: Path, kind: type, name: str) -> dict[str, Any]:
    """Return what a TOML file holds: every required part of a dataclass but its name, nothing unknown, everything of its type."""
    own = fields(kind)[0].name  # which the file's name gives
    allowed = {part.name: _types(str(part.type)) for part in fields(kind) if part.name != own}
    required = [part.name for part in fields(kind) if part.default is MISSING and part.name != own]
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the {name} {path}: {error}") from None
    for entry, value in held.items():
        if entry not in allowed:
            raise InputError(f"{name} {path}: unknown entry {entry!r}: {nearest(entry, allowed)}")
        if not isinstance(value, allowed[entry]) or isinstance(value, bool) or value == "":
            words = {str: "text", dict: "a table", int: "a number"}[allowed[entry][0]]
            raise InputError(f"{name} {path}: {entry}={value!r} must be {words}")
    if missing := [entry for entry in required if entry not in held]:
        raise InputError(f"{name} {path} lacks {', '.join(missing)}")
    return held


def _types(annotation: str) -> tuple[type, ...]:
    return (dict,) if "Mapping" in annotation else (str,) if "str" in annotation else (int,) if annotation == "int" else (int, float)


def judge_cards(cards: Sequence[Card], rows: Mapping[str, Mapping[str, Any]], tier: str = "toy") -> list[dict[str, Any]]:
    """Return a verdict for each card that a toy can judge and whose arms were run and measured, by the rules of :func:`judge`.

    Args:
        cards: claims.
        rows: arms of reports and ends of sweeps by name; each has ``score`` and further intervals.
        tier: of the run.

    Raises:
        InputError: no such tier.
    """
    choose("tier", tier, TIERS)
    found = []
    for card in (card for card in cards if not card.absent):
        value, against = (rows.get(name, {}).get(card.measure) for name in (card.arm, card.control))
        if isinstance(value, Mapping) and isinstance(against, Mapping):
            names = [str(rows[name].get("setting", name)) for name in (card.arm, card.control)]
            found.append({"card": card.id, **judge(card, value, against, tier), "arm": names[0], "control": names[1]})
    return found


def judge(card: Card, value: Mapping[str, Any], against: Mapping[str, Any], tier: str = "toy") -> dict[str, Any]:
    """Return the verdict of one card from two intervals that share their seeds.

    The direction holds, or does not, where the whole 95 % interval of the paired differences lies on one side of 0 (of ``-margin`` where
    the claim is that something is ``kept``) and there are five seeds; two exact numbers need no seeds. Beyond the toy, and for exact
    numbers, the published one is judged too: *matched* where the arm's interval lies inside ``published +- margin``, *consistent* where
    it overlaps that, *differs* where it does not.

    Args:
        card: the claim.
        value, against: intervals of its arm and its control.
        tier: of the run.

    Returns:
        ``{"claim", "measure", "arm", "control", "value", "against", "difference", "verdict"}``, and ``"published"`` where that is judged.
    """
    certain = bool(value.get("exact") and against.get("exact"))
    row = verdict(card.claim, value, against, names=(card.arm, card.control), wanted=card.wanted, margin=card.margin)
    if certain:
        row |= _exact(card, value["mean"] - against["mean"])
    elif row["difference"]["n"] < SEEDS:
        row["verdict"] = "cannot tell"
    row |= {"measure": card.measure, "value": dict(value), "against": dict(against)}
    if card.published is not None and (certain or tier != "toy"):
        row["published"] = compare_published(card.published, card.margin, value)
    return row


def _exact(card: Card, difference: float) -> dict[str, Any]:
    better = difference >= -card.margin if card.wanted == "kept" else difference < 0 if card.wanted == "lower" else difference > 0
    return {"difference": exact(difference), "verdict": "direction holds" if better else "direction does not hold"}


def compare_published(published: float, margin: float, value: Mapping[str, Any]) -> str:
    """Return ``"matched"``, ``"consistent"``, ``"differs"``, or ``"cannot tell"`` where there is one seed and so no interval."""
    low, high = value["low"], value["high"]
    if low is None:
        return "cannot tell"
    if published - margin <= low and high <= published + margin:
        return "matched"
    return "consistent" if low <= published + margin and published - margin <= high else "differs"


def claims_table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return verdicts of cards as a Markdown table: what is compared, the paired difference, the verdict."""
    header = ["claim", "measure", "arm / control", "difference [95 %]", "here"]
    rows = [
        [row["claim"], row["measure"], f"{row['arm']} / {row['control']}", spread(row["difference"], ".3f", sign=True), verdict_of(row)]
        for row in verdicts
    ]
    return markdown_table(header, rows)


def verdict_of(row: Mapping[str, Any]) -> str:
    """Return the verdict of a row in words, with that on the published number where there is one."""
    return row["verdict"] + (f"; published: {row['published']}" if "published" in row else "")


def published_table(cards: Sequence[Card]) -> str:
    """Return what was published as a Markdown table, with what a run at full scale would take."""
    number = lambda value: "-" if value is None else f"{value:g}"  # noqa: E731
    common = {paper: load_protocol(paper).full["needs"] for paper in {paper_of(card) for card in cards if not card.needs}}
    rows = [
        [card.claim, card.source, number(card.published), number(card.published_control), card.needs or common[paper_of(card)]]
        for card in cards
    ]
    return markdown_table(["claim", "source", "published", "its control", "tier full: not attempted, needs"], rows)


def paper_of(card: Card) -> str:
    """Return the paper whose claim a card is."""
    return card.id.partition("-")[0]
