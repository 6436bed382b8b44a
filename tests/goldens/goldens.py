"""Goldens: numbers of small analytic cases as somebody once saw and accepted them, one file a device. Nothing replaces them unseen.

    python tests/goldens/goldens.py draft [NAME ...]              what differs now, into drafts/<device>.json
    python tests/goldens/goldens.py review                        a table of it: case, array, by how much, old and new
    python tests/goldens/goldens.py promote NAME ... --why TEXT   these drafts become goldens (--all: every draft), the reason is kept
    with --device cuda                                            the column of a GPU

A case without a golden fails, and so does a golden without a case; promoting the latter's name takes it away. Kept of an array: its shape,
all values up to 64, else 64 at even distances with mean, deviation and largest, and of whole numbers the SHA-256 of all of them. Numbers
may differ by 1e-5 of the array's largest, whole numbers not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import golden_distilling
import golden_numbers
import golden_sampling
import golden_sets
import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.files import load_json, write_atomic
from vidistill.lab.report import markdown_table

FOLDER = Path(__file__).parent
ROOMS = (golden_numbers, golden_sampling, golden_distilling, golden_sets)
CASES: dict[str, Callable[[torch.device], dict[str, Tensor]]] = {name: case for room in ROOMS for name, case in room.CASES.items()}

DEVICES = ("cpu", "cuda")
TOLERANCE = 1e-5
KEPT = 64
WHY = "why"

Arrays = dict[str, Any]
"""Array -> what is kept of it; a golden has its reason, ``why``, among them."""


@dataclass(frozen=True)
class Change:
    """What differs in one array of a case.

    Attributes:
        case, array: names; no array where the whole case is new or gone.
        by: the largest difference over the array's largest value, of whole numbers the difference itself; infinite where there is no such.
        golden, now: the value that differs most, as it was and as it is, or what is wrong.
    """

    case: str
    array: str
    by: float
    golden: str
    now: str


# ------------------------------------------------------------------------------------------------------------------ what is kept


def kept(x: Tensor) -> dict[str, Any]:
    """Return what a golden keeps of an array.

    Raises:
        InputError: a value is not finite.
    """
    whole = not x.is_floating_point()
    flat = x.detach().cpu().flatten().to(torch.int64 if whole else torch.float64)
    if not bool(flat.isfinite().all()):
        raise InputError("a golden needs finite values")
    at = torch.linspace(0, len(flat) - 1, min(len(flat), KEPT), dtype=torch.float64).round().long()
    entry: dict[str, Any] = {"shape": list(x.shape), "tolerance": 0 if whole else TOLERANCE}
    entry["values"] = flat[at].tolist() if whole else short(flat[at])
    if len(flat) > KEPT and whole:
        entry["sha256"] = hashlib.sha256(flat.numpy().tobytes()).hexdigest()
    elif len(flat) > KEPT:
        entry |= zip(("mean", "std", "largest"), short(torch.stack([flat.mean(), flat.std(), flat.abs().max()])), strict=True)
    return entry


def short(values: Tensor) -> list[float]:
    """Return numbers with nine digits."""
    return [float(f"{value:.9g}") for value in values.tolist()]


def made(name: str, device: str) -> Arrays:
    """Return what a case gives now.

    Raises:
        InputError: there is no such case, or it gives what is not finite.
    """
    found = CASES[choose("case", name, CASES)](torch.device(device))
    return {array: kept(value) for array, value in found.items()}


# ------------------------------------------------------------------------------------------------------------------ comparison


def changes(case: str, golden: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[Change]:
    """Return what differs between a golden and what its case gives; nothing where all is within the tolerances."""
    if golden is None and now is None:
        return []
    if golden is None or now is None:
        return [Change(case, "", float("inf"), "none" if golden is None else "a golden", "no such case" if now is None else "a case")]
    arrays = dict.fromkeys([*(name for name in golden if name != WHY), *now])
    found = (compared(case, array, golden.get(array), now.get(array)) for array in arrays)
    return [change for change in found if change is not None]


def compared(case: str, array: str, golden: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Change | None:
    """Return the largest difference of an array where it is beyond the golden's tolerance."""
    if golden is None or now is None:
        return Change(case, array, float("inf"), "none" if golden is None else "an array", "none" if now is None else "an array")
    if any(golden.get(part) != now.get(part) for part in ("shape", "tolerance")):
        was, is_now = (f"{entry['shape']}{'' if entry['tolerance'] else ', whole numbers'}" for entry in (golden, now))
        return Change(case, array, float("inf"), was, is_now)
    names = [part for part in ("mean", "std", "largest") if part in golden]
    old, new = ([*entry["values"], *(entry[part] for part in names)] for entry in (golden, now))
    if not golden["tolerance"]:
        if golden == now:
            return None
        by, a, b = max((abs(a - b), a, b) for a, b in zip(old, new, strict=True))
        return Change(case, array, float(by), str(a), str(b)) if by else Change(case, array, float("inf"), "other bytes", "of these values")
    largest = max((abs(value) for value in old), default=0.0) or 1.0
    by, a, b = max(((abs(a - b) / largest, a, b) for a, b in zip(old, new, strict=True)), default=(0.0, 0.0, 0.0))
    return Change(case, array, by, f"{a:.6g}", f"{b:.6g}") if by > golden["tolerance"] else None


def told(found: Iterable[Change]) -> str:
    """Return changes as a Markdown table."""
    rows = [[change.case, change.array or "-", f"{change.by:.1e}", change.golden, change.now] for change in found]
    return markdown_table(["case", "array", "differs by", "golden", "now"], rows)


# ------------------------------------------------------------------------------------------------------------------ files


def goldens_of(device: str) -> Path:
    """Return the file of a device's goldens."""
    return FOLDER / f"{choose('device', device, DEVICES)}.json"


def drafts_of(device: str) -> Path:
    """Return the file of its drafts, which git ignores."""
    return FOLDER / "drafts" / f"{choose('device', device, DEVICES)}.json"


def load(path: Path) -> dict[str, Any]:
    """Return the cases of a file, none where there is no file."""
    return load_json(path) if path.is_file() else {}


def save(path: Path, cases: Mapping[str, Any]) -> None:
    """Write cases by name, an array a line, so that git shows what a promotion changed."""
    blocks = []
    for name, arrays in sorted(cases.items()):
        lines = ",\n".join(f"  {json.dumps(array)}: {json.dumps(value, allow_nan=False)}" for array, value in (arrays or {}).items())
        blocks.append(f"{json.dumps(name)}: " + ("null" if arrays is None else f"{{\n{lines}\n}}"))
    text = "{\n" + ",\n".join(blocks) + "\n}\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------------ draft, review, promote


def draft(names: Iterable[str], device: str) -> list[Change]:
    """Hold cases against their goldens: what differs becomes a draft, ``null`` for a golden without a case; what does not loses its own."""
    golden, drafts, found = load(goldens_of(device)), load(drafts_of(device)), list[Change]()
    for name in names:
        now = made(name, device) if name in CASES or name not in golden else None
        drafts.pop(name, None)
        if new := changes(name, golden.get(name), now):
            drafts[name] = now
            found += new
    if drafts or drafts_of(device).is_file():
        save(drafts_of(device), drafts)
    return found


def review(device: str) -> list[Change]:
    """Return what the drafts would change."""
    golden = load(goldens_of(device))
    return [change for name, now in load(drafts_of(device)).items() for change in changes(name, golden.get(name), now)]


def promote(names: Iterable[str], device: str, why: str) -> list[str]:
    """Make drafts goldens, with the reason beside each, and return their names.

    Raises:
        InputError: a name has no draft, or there is no reason.
    """
    golden, drafts, names = load(goldens_of(device)), load(drafts_of(device)), list(names)
    if not why.strip():
        raise InputError("a golden is promoted with its reason: --why 'what changed the numbers, and how that was checked'")
    for name in names:
        now = drafts.pop(choose("draft", name, drafts))
        golden.pop(name, None)
        if now is not None:
            golden[name] = {WHY: why.strip(), **now}
    save(goldens_of(device), golden)
    save(drafts_of(device), drafts)
    return names


def main(words: list[str] | None = None) -> int:
    """Run the tool; return its exit code: 0, or 2 after one line about bad input."""
    parser = argparse.ArgumentParser(description="Draft, review and promote goldens.")
    parser.add_argument("what", help="draft, review or promote")
    parser.add_argument("names", nargs="*", help="cases; draft without any takes all")
    parser.add_argument("--all", action="store_true", help="promote every draft")
    parser.add_argument("--why", default="", help="the reason, kept beside the golden")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    asked = parser.parse_args(words)
    try:
        what, golden = choose("command", asked.what, ("draft", "review", "promote")), load(goldens_of(asked.device))
        if what == "promote":
            if asked.all == bool(asked.names):
                raise InputError("give the names of the drafts to promote, or --all")
            names = promote(load(drafts_of(asked.device)) if asked.all else asked.names, asked.device, asked.why)
            print(f"promoted: {', '.join(names) or 'nothing'}")
            return 0
        found = draft(asked.names or dict.fromkeys([*CASES, *golden]), asked.device) if what == "draft" else review(asked.device)
        print(told(found) if found else "nothing differs")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
