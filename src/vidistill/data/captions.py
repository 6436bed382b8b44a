"""What to ask a text-to-video model for: a file of prompts, the captions of a world whose truth is known, or the names of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vidistill.data.layouts import Item, VideoSet, spoken
from vidistill.data.world import Factors
from vidistill.errors import InputError
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
    names = [item.name for item in (*_in_turn(videos.test), *_in_turn(videos.train))][:count]
    try:
        known = {Path(name).stem: row for name, row in load_json(path)["clips"].items()}
        rows = [known[Path(name).stem] for name in names]
        wanted = [Factors(**{part.name: row[part.name] for part in fields(Factors)}) for row in rows]
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} does not hold the factors of its clips ({error}): write the world anew") from None
    return [row.caption() for row in wanted], wanted


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
