"""The first clip of each arm that a run kept, for places where one clip stands for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidistill.data.clip_record import sidecar

if TYPE_CHECKING:
    from torch import Tensor

FIRST = "0000.mp4"


def place_of(folder: str | Path, arm: str) -> Path:
    """Return where the first clip of an arm lies in a run's folder, whether or not it is there."""
    return Path(folder) / "clips" / arm / FIRST


def first_clips(out: Path) -> list[str]:
    """Return the names, in a run's folder, of the first clip of each arm and of the JSON beside it.

    A distilled set keeps no mp4: its first clip is decoded here as that of the arm ``method``.
    """
    from vidistill.data.world import write_clip

    if (out / "distilled.safetensors").is_file():
        write_clip(place_of(out, "method"), first_of_set(out / "distilled.safetensors"))
    found = [path for clip in sorted(out.glob(f"clips/*/{FIRST}")) for path in (clip, sidecar(clip)) if path.is_file()]
    return [path.relative_to(out).as_posix() for path in found]


def first_of_set(path: Path) -> Tensor:
    """Return the first clip of a distilled set as its students see it, uint8 RGB ``[3, T, H, W]``.

    Raises:
        InputError: the file is no distilled set, or its codec travels separately.
    """
    from vidistill.codec import unpack
    from vidistill.compress import load_distilled
    from vidistill.files import load_tensors

    tensors, _ = load_tensors(path)
    if "video" in tensors:
        return tensors["video"][0]
    stored = load_distilled(path)
    return unpack(stored.codec_tensors, stored.codec).decode(stored.z[:1], stored.frames)[0]
