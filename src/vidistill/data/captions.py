"""What to ask a text-to-video model for: a file of prompts, the captions of a world whose truth is known, or the names of classes; and
what a file says about clips."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vidistill.data.layouts import Item, VideoSet, spoken
from vidistill.data.world import Factors
from vidistill.errors import InputError, choose
from vidistill.files import load_json

TRUTH = "factors.json"
"""The file of a Motion World that says what each of its clips shows."""


def prompts_of(videos: VideoSet, count: int) -> tuple[list[str], list[Factors] | None]:
    """Return prompts for a data set, the classes in turn, test clips before training clips; fewer are the beginning of more.

    Args:
        videos: the set. A Motion World's clips have captions; of any other set the classes' names are taken, split into words.
        count: how many, >= 1; a world has no more than it has clips.

    Returns:
        the prompts, and what each clip should show: the factors, or None where nobody knows.

    Raises:
        InputError: the world's file of factors is damaged, or lacks a clip.
    """
    path = videos.root / TRUTH
    if not path.is_file():
        return [spoken(videos.classes[i % len(videos.classes)]) for i in range(count)], None
    wanted = _shown(path, [item.name for item in (*_in_turn(videos.test), *_in_turn(videos.train))][:count])
    return [row.caption() for row in wanted], wanted


def world_captions(items: Sequence[Item], root: Path) -> list[str]:
    """Return the captions of a Motion World's clips.

    Raises:
        InputError: the world's file of factors is damaged, or lacks a clip.
    """
    return [row.caption() for row in _shown(root / TRUTH, [item.name for item in items])]


def _shown(path: Path, names: Sequence[str]) -> list[Factors]:
    """Return what a world's clips show, from its file of factors."""
    try:
        known = {Path(name).stem: row for name, row in load_json(path)["clips"].items()}
        rows = [known[Path(name).stem] for name in names]
        return [Factors(**{part.name: row[part.name] for part in fields(Factors)}) for row in rows]
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} does not hold the factors of its clips ({error}): write the world anew") from None


def _in_turn(items: Sequence[Item]) -> list[Item]:
    """Return items with their classes in turn: the first of each, then the second of each."""
    seen: Counter[int] = Counter()
    turns = []
    for row, item in enumerate(items):
        turns.append((seen[item.label], item.label, row))
        seen[item.label] += 1
    return [items[row] for _, _, row in sorted(turns)]


def read_prompts(path: str | Path, count: int) -> list[str]:
    """Return the first ``count`` prompts of a text file, one a line; empty lines do not count.

    Raises:
        InputError: it cannot be read as text, or holds none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read prompts from {path}: {getattr(error, 'strerror', None) or error}") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{path} holds no prompt: write one a line")
    return prompts[:count]


def describe_prompts(videos: VideoSet, prompts: Sequence[str], path: str = "") -> dict[str, Any]:
    """Say what a run read, for its report: where its prompts come from and how many there are; none of the clips is read.

    Args:
        videos, prompts: the set and the prompts.
        path: the file that they come from instead.
    """
    held = {"root": path or str(videos.root), "layout": videos.layout, "split": videos.split, "classes": list(videos.classes)}
    return held | {"train": 0, "test": 0, "prompts": len(prompts), "skipped": []}


NAMED = ("video", "path", "file", "file_name", "name")
SAID = ("prompt", "caption", "cap", "text")
"""What the columns of a file of captions are called: clips, and what is said of them (DiffSynth's, FastVideo's and data sets' own)."""


def read_captions(path: str | Path) -> dict[str, str]:
    """Return the captions of clips by file name, as the file has it.

    Args:
        path: ``.csv`` or ``.jsonl`` of rows with a clip and its caption (``NAMED``, ``SAID``), or ``.json``: a list of such rows, or
            ``{clip: caption}``. A list of captions counts by its first.

    Raises:
        InputError: it cannot be read, is of another kind, or a row lacks one of the two; the line says which row.
    """
    path = Path(path)
    choose("kind of caption file", path.suffix, (".csv", ".json", ".jsonl"))
    rows: Any
    if path.suffix == ".json":
        rows = load_json(path)
        rows = [{"video": name, "prompt": text} for name, text in rows.items()] if isinstance(rows, dict) else rows
    else:
        try:
            text = path.read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if line.strip()]
            rows = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else [json.loads(line) for line in lines]
        except OSError as error:
            raise InputError(f"cannot read captions from {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise InputError(f"{path} is not a file of captions: {error}") from None
    found = {}
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        name, said = (_first_of(row, names) for names in (NAMED, SAID))
        if not name or not said:
            lacks = f"no clip ({', '.join(NAMED)})" if not name else f"no caption ({', '.join(SAID)})"
            raise InputError(f"{path}: row {number} has {lacks}")
        found[name] = said
    if not found:
        raise InputError(f"{path} holds no captions")
    return found


def captions_of(items: Sequence[Item], root: Path, captions: Mapping[str, str], source: str | Path) -> list[str]:
    """Return the caption of each clip; a file may call it by its path below the folder, by its name, or by its name without ending.

    Raises:
        InputError: clips without a caption: the line says how many, and the first.
    """

    def of(item: Item) -> str | None:
        inside = item.path.relative_to(root)
        return next((captions[name] for name in (inside.as_posix(), inside.name, inside.stem) if name in captions), None)

    found = [of(item) for item in items]
    if missing := [item.path.relative_to(root) for item, text in zip(items, found, strict=True) if text is None]:
        what = f"{missing[0]} has no caption in {source}"
        raise InputError(f"{what} ({len(missing)} of {len(items)} clips have none): write one, or take the clip out of the folder")
    return [str(text) for text in found]


def _first_of(row: Any, names: Sequence[str]) -> str | None:
    value = next((row[name] for name in names if row.get(name)), None) if isinstance(row, dict) else None
    value = value[0] if isinstance(value, list) and value else value
    return str(value).strip() if isinstance(value, str | int | float) else None
