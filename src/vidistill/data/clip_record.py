"""What a saved clip says about itself: the run, arm, prompt and model that made it. It travels beside the clip and inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill import __version__

if TYPE_CHECKING:
    from vidistill.data.layouts import VideoSet

_ORIGIN: ContextVar[Mapping[str, Any] | None] = ContextVar("origin", default=None)


@contextmanager
def made_by(**facts: Any) -> Iterator[None]:
    """Let every clip that is recorded within say so: ``command``, ``commit``, ``device``, all JSON-ready."""
    token = _ORIGIN.set(facts)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def clip_record(
    paper: str, arm: str, row: int, knobs: Mapping[str, Any], seed: int, prompts: Sequence[str], models: Any, videos: VideoSet
) -> dict[str, Any]:
    """Return the record of one clip, JSON-ready, with what :func:`made_by` says.

    Args:
        paper, arm, row: whose clip it is; ``row`` is its number among the arm's.
        knobs, seed: of the run.
        prompts: what the model was asked for, a line for each of the arm's clips.
        models: fingerprint of the model, or of all that took part.
        videos: the data set of the run.
    """
    told = {"paper": paper, "arm": arm, "row": row, "knobs": dict(knobs), "seed": seed, "prompt": prompts[row], "models": models}
    return told | {"data": {"root": str(videos.root), "layout": videos.layout}, "version": __version__, **(_ORIGIN.get() or {})}


def sidecar(clip: str | Path) -> Path:
    """Return where the record of a clip lies: ``clip.mp4.json`` beside ``clip.mp4``."""
    return Path(clip).with_name(f"{Path(clip).name}.json")
