"""What decides a cell's result besides its knobs and its seed: the code, the videos, and the files that a knob names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vidistill.files import digest
from vidistill.knobs import Knobs, Value
from vidistill.lab.code import code_digest
from vidistill.lab.presets import PLANE
from vidistill.lab.source import embedded, open_source
from vidistill.types import Progress, silent


def key_of(knobs: Knobs, data: str = "", layout: str = "ucf101", progress: Progress = silent) -> Callable[[Mapping[str, Value]], Any]:
    """Return a function of knob values that says, JSON-ready, what else decides a result of the paper.

    Videos and files count by name, size and time of change: they are not read. The embedded world is written if it is not there.

    Args:
        knobs: of the paper.
        data, layout: see :func:`vidistill.lab.source.open_source`.

    Raises:
        InputError: the videos cannot be listed; the function that is returned raises it, too.
    """
    paper = knobs.paper
    code = code_digest(paper)

    @cache
    def videos(split: int, subset: str) -> str:
        found = open_source(data, layout, {"split": split, "subset": subset}, progress)
        if not data:
            return embedded().name
        sides = {
            side: [(item.name, item.label, item.group, *_stamp(item.path)) for item in getattr(found, side)] for side in ("train", "test")
        }
        return digest([sides, found.classes])

    @cache
    def files(place: str) -> str:
        path = Path(place)
        every = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return digest([(file.relative_to(path).as_posix(), *_stamp(file)) for file in every])

    def key(values: Mapping[str, Value]) -> Any:
        free = {name: str(value) for name, value in values.items() if isinstance(value, str) and value and not knobs[name].choices}
        named = {name: files(value) for name, value in free.items() if Path(value).exists()}
        own = None if paper in PLANE else videos(int(values.get("split", 1)), str(values.get("subset", "all")))
        return {"code": code, "videos": own, "files": named}

    return key


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
