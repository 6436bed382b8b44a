"""Where a run's videos come from: the user's folder, or the Motion World that comes with the package, written out as real files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill import __version__
from vidistill.files import cache_home
from vidistill.types import Progress, silent

if TYPE_CHECKING:
    from vidistill.data import VideoSet

SEED = 1
"""The embedded world: not the clips on which the lab's codec (20000, 7) and the fast protocol (0) were tuned."""


def embedded() -> Path:
    """Return where the embedded Motion World lies once it is written."""
    return cache_home() / f"motion-world-{__version__}-{SEED}"


def open_source(data: str | Path | None, layout: str, values: Mapping[str, Any], progress: Progress = silent) -> VideoSet:
    """Open ``data`` in ``layout``; without a folder, the embedded Motion World, read from mp4 files like any other data set.

    Args:
        data: folder of videos; None or "" for the embedded world, written once to the cache.
        layout: one of ``vidistill.data.LAYOUTS``; the embedded world always is ``ucf101``.
        values: knob values; ``split`` and ``subset`` are read.
    """
    from vidistill.data import open_videos

    if data:
        subset = values.get("subset", "all")
        return open_videos(data, layout, values.get("split", 1), None if subset == "all" else subset)
    from vidistill.data.world import write_world

    folder = embedded()
    write_world(folder, seed=SEED, progress=progress)
    return open_videos(folder, "ucf101")
